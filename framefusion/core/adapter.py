"""Low-rank additions to linear layers of the model itself, which a learned reducer may bring along.

Paper: LoRA, https://arxiv.org/abs/2106.09685.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

PREFIX, DOWN, UP = "adapter/", "/down", "/up"


@dataclass(frozen=True, eq=False)
class Adapter:
    """By name of a linear layer W of the model, A (r, in) and B (out, r): it then returns W x + scale * B A x."""

    factors: Mapping[str, tuple[Tensor, Tensor]]
    scale: float = 1.0

    def added(self, name: str, inputs: Tensor, output: Tensor) -> Tensor:
        """What layer `name` returns for `inputs` (..., in), where it returned `output` (..., out) without."""
        down, up = (factor.to(inputs) for factor in self.factors[name])
        return output + self.scale * ((inputs @ down.T) @ up.T).to(output)

    def state(self) -> dict[str, Tensor]:
        """Its numbers by the names they have in a file."""
        ends = ((DOWN, 0), (UP, 1))
        return {PREFIX + name + end: pair[at] for name, pair in self.factors.items() for end, at in ends}

    @staticmethod
    def of(state: Mapping[str, Tensor], scale: float) -> Adapter:
        """From what `state` returned. Raises ValueError where two factors do not fit each other."""
        names = [key.removeprefix(PREFIX).removesuffix(DOWN) for key in state if key.endswith(DOWN)]
        factors = {name: (state[PREFIX + name + DOWN], state.get(PREFIX + name + UP)) for name in names}
        whole: dict[str, tuple[Tensor, Tensor]] = {}
        for name, (down, up) in factors.items():
            if up is None or down.ndim != 2 or up.ndim != 2 or up.shape[1] != down.shape[0]:
                raise ValueError(f"the two factors of `{name}` do not fit each other")
            whole[name] = down, up
        if len(state) != 2 * len(whole):
            raise ValueError("it holds halves of adapters")
        return Adapter(whole, scale)
