"""Random: keep tokens by lot, the control every comparison must show.

Paper: none. Differs from the published code: there is none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

import torch

from framefusion.core.method import MethodFacts, Signals
from framefusion.core.options import Interval, Keep, Layer
from framefusion.core.scored import SelectingMethod

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Random(SelectingMethod):
    """Keep a random subset of each clip's patches, the same for the same seed and number of tokens.

    Args:
        keep: fraction of the patches of each clip, (0, 1], or their number.
        layer: decoder layer before which the others go; 0 is the prompt point.
        seed: which ones.

    Raises:
        OptionError: a value that its option does not take.

    Example:
        >>> with ff.reduce(model, ff.Random(keep=0.3, seed=1)) as reduction:
        ...     answer = model.generate(**inputs, max_new_tokens=2)
        >>> reduction.report.visual_tokens, reduction.report.kept_tokens
        (512, 154)
    """

    keep: Keep = 0.3
    layer: Layer = 0
    seed: Annotated[int, Interval("[0, 9223372036854775807]")] = 0

    facts = MethodFacts(
        name="random",
        title="Random",
        paper="",
        summary="keeps tokens by lot",
        stage="before a layer",
    )

    uses: ClassVar[frozenset[str]] = frozenset()

    def select(self, signals: Signals, count: int) -> Tensor:
        lot = torch.randperm(len(signals), generator=torch.Generator().manual_seed(self.seed))
        return lot[:count].to(signals.size.device)
