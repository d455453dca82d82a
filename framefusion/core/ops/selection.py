"""Choose tokens: the best by a score, in all or per group, spread evenly, or unlike one another."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch

from framefusion.core.ops.budget import kept_count
from framefusion.core.options import Keep

if TYPE_CHECKING:
    from torch import Tensor

SLACK = 1e-6
"""Scores of unit scale this close to each other are a tie: float32 cannot tell them apart on every device."""


def highest(score: Tensor, count: int) -> Tensor:
    """(count,) indices of the highest of (N,) scores, best first, earlier tokens first among equals."""
    return score.sort(descending=True, stable=True).indices[:count]


def first_highest(score: Tensor, slack: float = SLACK) -> Tensor:
    """(1,) index of the first of the (N,) scores that is within `slack` of the highest."""
    return (score >= score.max() - slack).int().argmax(0, keepdim=True)


def highest_per_group(score: Tensor, group: Tensor, keep: Keep, rounding: Callable[[float], float] = round) -> Tensor:
    """Indices of the highest scores of every group, `keep` of each: a share or a number, at least one token.

    score: (N,). group: (N,) equal for the members of a group. rounding: as in `kept_count`.
    """
    picks = []
    for number in group.unique():
        members = (group == number).nonzero().flatten()
        picks.append(members[highest(score[members], kept_count(keep, len(members), rounding))])
    return torch.cat(picks)


def lowest_of_each(score: Tensor, group: Tensor, quota: Tensor) -> Tensor:
    """(N,) bool, the `quota` tokens of lowest score in each group; earlier tokens win ties.

    score: (N,). group: (N,) number of the group of each token, 0..G-1. quota: (G,) tokens to take of each.
    """
    by_score = score.sort(stable=True).indices
    order = by_score[group[by_score].sort(stable=True).indices]
    lined = group[order]
    size = torch.bincount(group, minlength=quota.numel())
    rank = torch.arange(lined.numel(), device=lined.device) - (size.cumsum(0) - size)[lined]
    chosen = torch.empty_like(lined, dtype=torch.bool)
    chosen[order] = rank < quota[lined]
    return chosen


def evenly_spaced(count: int, total: int, device: torch.device | str = "cpu") -> torch.Tensor:
    """(count,) ascending, distinct positions in 0..total-1, the first of each of `count` equal stretches."""
    return torch.arange(count, device=device) * total // count


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


def farthest_points(unit: Tensor, count: int, weight: Tensor | None = None) -> Tensor:
    """Greedy max-min choice of `count` of the (N, D) unit rows by cosine distance, in the order of choice.

    The first pick lies farthest from its nearest other row; each later one farthest from the picks so far. A row is
    picked once, also when only duplicates of picks are left. weight: (N,) that multiplies the distances of each row.
    """
    gap = nearest_gap(unit)
    taken = torch.zeros(len(unit), dtype=torch.bool, device=unit.device)
    picks = []
    for number in range(count):
        score = gap if weight is None else weight * gap
        pick = first_highest(score.masked_fill(taken, float("-inf")))
        picks.append(pick)
        taken[pick] = True
        to_pick = 1.0 - unit @ unit.index_select(0, pick)[0]
        gap = to_pick if number == 0 else torch.minimum(gap, to_pick)
    return torch.cat(picks)


def picked_apart(conflict: Tensor) -> Tensor:
    """(n,) bool: one after the other, each is picked unless it conflicts with an earlier pick.

    conflict: (n, n) bool, symmetric.
    """
    earlier = conflict.tril(-1)
    picked = torch.zeros(len(conflict), dtype=torch.bool, device=conflict.device)
    undecided = ~picked
    while bool(undecided.any()):
        # Whoever waits for nobody is picked, many at a time.
        ready = undecided & ~(earlier & undecided[None, :]).any(1)
        picked |= ready
        undecided &= ~ready & ~(conflict & ready[None, :]).any(1)
    return picked


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


SPANNED = 1e-5
"""A row whose squared distance from the span of the picks is at most this adds nothing but rounding."""


def dpp_picks(unit: Tensor, relevance: Tensor, count: int) -> Tensor:
    """Greedy MAP of the kernel diag(r) U U^T diag(r), in the order of choice.

    unit: (N, D) float32 rows of length one or zero. relevance: (N,) float32, not negative.
    Every pick has the largest r^2 times squared distance from the span of the picks before. Once nothing is left
    outside that span the most relevant remaining rows follow.
    """
    distance = unit.square().sum(1)
    basis = unit.new_zeros(count, len(unit))
    taken = torch.zeros(len(unit), dtype=torch.bool, device=unit.device)
    picks = []
    for number in range(count):
        gain = relevance.square() * torch.where(distance > SPANNED, distance, 0.0)
        gain = gain.masked_fill(taken, float("-inf"))
        spent = gain.max() <= 0.0
        score = torch.where(spent, relevance.masked_fill(taken, float("-inf")), gain)
        pick = first_highest(score)
        picks.append(pick)
        taken[pick] = True
        along = unit @ unit.index_select(0, pick)[0] - basis[:number].T @ basis[:number].index_select(1, pick)[:, 0]
        along = along * distance[pick].clamp(min=SPANNED).rsqrt()
        basis[number] = torch.where(spent, 0.0, along)
        distance = (distance - basis[number].square()).clamp(min=0.0)
    return torch.cat(picks)
