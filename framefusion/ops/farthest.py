"""Spread a few picks over a cloud of unit vectors."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from framefusion.ops.pick import first_highest

if TYPE_CHECKING:
    from torch import Tensor

ROWS = 1024
"""Rows of a similarity matrix held at once."""


def nearest_gap(unit: Tensor) -> Tensor:
    """(N,) cosine distance of each row of (N, D) to its nearest other row; infinite when there is no other."""
    gaps = []
    for start in range(0, len(unit), ROWS):
        part = unit[start : start + ROWS]
        cosine = part @ unit.T
        own = torch.arange(len(part), device=unit.device)
        cosine[own, own + start] = float("-inf")
        gaps.append(1.0 - cosine.amax(1))
    return torch.cat(gaps)


def farthest_points(unit: Tensor, count: int) -> Tensor:
    """Greedy max-min choice of `count` of the (N, D) unit rows by cosine distance, in the order of choice.

    The first pick lies farthest from its nearest other row; each later one farthest from the picks so far. A row is
    picked once, also when only duplicates of picks are left.
    """
    gap = nearest_gap(unit)
    taken = torch.zeros(len(unit), dtype=torch.bool, device=unit.device)
    picks = []
    for number in range(count):
        pick = first_highest(gap.masked_fill(taken, float("-inf")))
        picks.append(pick)
        taken[pick] = True
        to_pick = 1.0 - unit @ unit.index_select(0, pick)[0]
        gap = to_pick if number == 0 else torch.minimum(gap, to_pick)
    return torch.cat(picks)


def least_similar(unit: Tensor, count: int) -> Tensor:
    """Greedy choice of `count` of the (N, D) unit rows by average cosine, in the order of choice.

    The first pick has the lowest average cosine with the other rows; each later one with the picks so far.
    """
    to_all = unit @ unit.sum(0)
    similarity = (to_all - unit.square().sum(1)) / max(1, len(unit) - 1)
    taken = torch.zeros(len(unit), dtype=torch.bool, device=unit.device)
    total = torch.zeros_like(similarity)
    picks = []
    for number in range(count):
        pick = first_highest((-similarity).masked_fill(taken, float("-inf")))
        picks.append(pick)
        taken[pick] = True
        total = total + unit @ unit.index_select(0, pick)[0]
        similarity = total / (number + 1)
    return torch.cat(picks)
