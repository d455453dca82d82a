"""Every visual token with its predecessor in time, and what becomes of tokens that join theirs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from framefusion.layout import TEXT, Geometry
from framefusion.ops.merge import heads_of_runs
from framefusion.ops.similarity import NO_PREDECESSOR, similarity_to_previous, time_order
from framefusion.plan import Plan

if TYPE_CHECKING:
    from torch import Tensor

    from framefusion.method import Signals


@dataclass(frozen=True)
class Pairs:
    """Tokens lined up along time.

    size: (M,) originals that each token of the stage's scope stands for. visual: (N,) indices of the visual ones.
    order: (N,) permutation that lines them up. similarity: (N,) cosine with the predecessor, in that order.
    """

    size: Tensor
    visual: Tensor
    order: Tensor
    similarity: Tensor

    @property
    def candidates(self) -> int:
        """Tokens that have a predecessor."""
        return int((self.similarity > NO_PREDECESSOR).sum())

    def most_similar(self, count: int) -> Tensor:
        """(N,) bool: the `count` tokens closest to their predecessor."""
        chosen = torch.topk(self.similarity, count).indices
        return torch.zeros_like(self.similarity, dtype=torch.bool).index_fill(0, chosen, True)

    def plan(self, joins: Tensor) -> Plan:
        """Runs of joining tokens (N,) collapse into the token before them, a mean weighted by size."""
        head = torch.arange(self.size.numel(), device=joins.device)
        head[self.visual] = self.visual[heads_of_runs(joins, self.order)]
        return Plan.merge(head, self.size)


def places(geometry: Geometry) -> Tensor:
    """(N,) number of each token's place: equal for one patch of one clip in different frames."""
    if len(geometry) == 0:
        return geometry.patch
    return geometry.clip * (int(geometry.patch.max()) + 1) + geometry.patch


def pairs_along_time(signals: Signals, strict: bool = False) -> Pairs:
    """strict: sizes count as one, clips are not told apart, and cosines keep the dtype of the hidden states."""
    geometry, hidden = signals.geometry, signals.hidden()
    size = torch.ones_like(signals.size) if strict else signals.size
    visual = (geometry.kind != TEXT).nonzero().flatten()
    place = geometry.patch[visual] if strict else places(geometry[visual])
    order = time_order(place)
    return Pairs(size, visual, order, similarity_to_previous(hidden[visual], place, order, strict))
