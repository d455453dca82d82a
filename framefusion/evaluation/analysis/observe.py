"""A method that watches the similarity of neighbouring frames through the layers, and keeps every token."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from framefusion.core.method import Method, MethodFacts, Point, Setting, Signals, Stage, before
from framefusion.core.ops.similarity import NO_PREDECESSOR
from framefusion.core.stage import InDecoder
from framefusion.core.temporal_pairs import pairs_along_time

if TYPE_CHECKING:
    from torch import Tensor

    from framefusion.core.plan import Plan


@dataclass(frozen=True)
class Observe(Method):
    """Notes how similar tokens are to their predecessors at the input of each decoder layer.

    layers: only of the first so many; None for all of them.
    seen: per prompt row, per layer, (n,) float32 cosines of the row's n tokens that have a token at their place in the
    previous frame, in the same order at every layer. Rows without such tokens have empty tensors.
    """

    layers: int | None = None
    seen: list[list[Tensor]] = field(default_factory=list, compare=False)

    facts: ClassVar[MethodFacts] = MethodFacts(
        "observe", "Observe", "", "measures similarity", "before each layer", False, "geometry", False
    )

    def stages(self) -> tuple[Stage, ...]:
        return (_Eye(self),)


@dataclass(frozen=True)
class _Eye(InDecoder):
    method: Observe
    needs: ClassVar[frozenset[str]] = frozenset({"hidden"})

    def points(self, layers: int) -> Iterable[Point]:
        return (before(layer) for layer in range(layers if self.method.layers is None else self.method.layers))

    def start(self, setting: Setting) -> list[Tensor]:
        self.method.seen.append([])
        return self.method.seen[-1]

    def step(self, state: list[Tensor], signals: Signals) -> tuple[Plan | None, list[Tensor]]:
        similarity = pairs_along_time(signals).similarity
        state.append(similarity[similarity > NO_PREDECESSOR].float().cpu())
        return None, state
