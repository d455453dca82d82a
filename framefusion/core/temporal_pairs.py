"""Every visual token with its predecessor in time, and what becomes of tokens that join theirs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from framefusion.core.layout import TEXT, Geometry
from framefusion.core.ops.matching import heads_of_runs
from framefusion.core.ops.similarity import NO_PREDECESSOR, similarity_to_previous, time_order
from framefusion.core.plan import Plan

if TYPE_CHECKING:
    from torch import Tensor

    from framefusion.core.method import Signals


@dataclass(frozen=True)
class Pairs:
    """Tokens lined up along time.

    size: (M,) originals that each token of the stage's scope stands for. visual: (N,) indices of the visual ones, None
    where all are. order: (N,) permutation that lines them up. similarity: (N,) cosine with the predecessor, in that
    order.
    """

    size: Tensor
    visual: Tensor | None
    order: Tensor
    similarity: Tensor

    def counts(self, joins: Tensor) -> tuple[int, int]:
        """How many tokens join, and how many have a predecessor they could join."""
        joining, candidates = torch.stack([joins.sum(), (self.similarity > NO_PREDECESSOR).sum()]).tolist()
        return joining, candidates

    def most_similar(self, count: int) -> Tensor:
        """(N,) bool: the `count` tokens closest to their predecessor."""
        chosen = torch.topk(self.similarity, count).indices
        return torch.zeros_like(self.similarity, dtype=torch.bool).index_fill(0, chosen, True)

    def plan(self, joins: Tensor, joining: int | None = None) -> Plan:
        """Runs of joining tokens (N,) collapse into the token before them, a mean weighted by size.

        joining: how many join, where that is known and each of them has a predecessor.
        """
        runs = heads_of_runs(joins, self.order)
        if self.visual is None:
            return Plan.merge(runs, self.size, None if joining is None else len(runs) - joining)
        head = torch.arange(self.size.numel(), device=joins.device)
        head[self.visual] = self.visual[runs]
        return Plan.merge(head, self.size)


def places(geometry: Geometry) -> Tensor:
    """(N,) number of each token's place: equal for one patch of one clip in different frames."""
    # A stride no patch number reaches, so that a GPU need not be asked for the highest one.
    return geometry.clip * (1 << 40) + geometry.patch


def pairs_along_time(signals: Signals, strict: bool = False) -> Pairs:
    """strict: text among the tokens is left out, sizes count as one, clips are not told apart, and cosines keep the
    dtype of the hidden states.
    """
    geometry, hidden = signals.geometry, signals.hidden()
    if not strict:
        place = places(geometry)
        order = time_order(place)
        return Pairs(signals.size, None, order, similarity_to_previous(hidden, place, order))
    visual = (geometry.kind != TEXT).nonzero().flatten()
    place = geometry.patch[visual]
    order = time_order(place)
    similarity = similarity_to_previous(hidden[visual], place, order, strict=True)
    return Pairs(torch.ones_like(signals.size), visual, order, similarity)
