"""AdaptPrune: choose visual tokens by attention, place and key similarity, one after another.

Paper: AdaptPrune, https://arxiv.org/abs/2503.08019.

Differs from the published code: grids of any size and clips of many frames (the code knows one image of 24 x 24), a
chosen token is never chosen twice, and the keys are those of the scored attention call, rotary positions included (the
code projects the next layer's keys once more, without rotation).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

import torch

from framefusion.core.layout import cells_of, frame_numbers
from framefusion.core.method import MethodFacts, Signals
from framefusion.core.ops.budget import kept_count
from framefusion.core.ops.similarity import unit_rows
from framefusion.core.options import AttendedLayer, Interval, Keep, Sigma
from framefusion.core.scored import SelectingMethod

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class AdaptPrune(SelectingMethod):
    """Soft non-maximum suppression on the last query's attention, weighted towards the centre of each frame.

    Args:
        keep: fraction of the patches of each clip, (0, 1], or their number.
        layer: decoder layer before which the others go; the score is that of the attention before it.
        centre_sigma: width of the Gaussian around the frame's centre, in half sides of the frame.
        radius: how far a chosen token lowers its neighbours' scores, in cells of its frame's grid.
        distance_sigma: width of that effect, in cells.
        similarity_sigma: width of that effect over one minus the cosine of the keys.

    Raises:
        OptionError: a value that its option does not take.

    Example:
        >>> with ff.reduce(model, ff.AdaptPrune(keep=0.1, layer=2)) as reduction:
        ...     answer = model.generate(**inputs, max_new_tokens=2)
        >>> reduction.report.visual_tokens, reduction.report.kept_tokens
        (512, 51)
    """

    keep: Keep = 0.1
    layer: AttendedLayer = 2
    centre_sigma: Sigma = 1.0
    radius: Annotated[float, Interval("[0, 1000000]")] = 5.0
    distance_sigma: Sigma = 1.5
    similarity_sigma: Sigma = 0.05

    facts = MethodFacts(
        name="adaptprune",
        title="AdaptPrune",
        paper="https://arxiv.org/abs/2503.08019",
        summary="keeps tokens that are attended to, near the centre, and unlike those chosen around them",
        stage="before a layer",
        query_aware=True,
    )

    uses: ClassVar[frozenset[str]] = frozenset({"attention", "keys"})

    def count(self, signals: Signals) -> int:
        return kept_count(self.keep, len(signals), int)

    def select(self, signals: Signals, count: int) -> Tensor:
        row, column = cells_of(signals.geometry)
        frame = frame_numbers(signals.geometry)
        score = signals.attention(1).to(torch.float32)
        score = score * self._centre(row, frame) * self._centre(column, frame)
        return self._choose(score, row, column, frame, unit_rows(signals.keys().flatten(1)), count)

    def _centre(self, place: Tensor, frame: Tensor) -> Tensor:
        """(N,) Gaussian along one side of each frame's grid, whose ends lie one half side from the centre."""
        last = torch.zeros(int(frame.max()) + 1, dtype=place.dtype, device=place.device)
        last = last.scatter_reduce(0, frame, place, "amax")[frame]
        offset = (2 * place - last) / last.clamp(min=1)
        return torch.exp(-(offset**2) / (2 * self.centre_sigma**2))

    def _choose(self, score: Tensor, row: Tensor, column: Tensor, frame: Tensor, key: Tensor, count: int) -> Tensor:
        """(count,) greedy choices: the best score each time, which then lowers the scores around it."""
        chosen = []
        for _ in range(count):
            pick = score.argmax().view(1)
            chosen.append(pick)
            square = (row - row[pick]) ** 2 + (column - column[pick]) ** 2
            near = (frame == frame[pick]) & (square <= self.radius**2)
            unlike = 1 - key @ key[pick].squeeze(0)
            closeness = square / (2 * self.distance_sigma**2) + unlike**2 / (2 * self.similarity_sigma**2)
            score = torch.where(near, score * (1 - torch.exp(-closeness)), score)
            score[pick] = -torch.inf
        return torch.cat(chosen)
