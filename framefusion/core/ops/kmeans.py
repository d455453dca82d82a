"""K-means by cosine: seeds that lie apart, clusters around them, and how many clusters are enough."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from framefusion.core.ops.selection import SLACK, first_highest
from framefusion.core.ops.similarity import unit_rows
from framefusion.core.ops.weighted import group_means

if TYPE_CHECKING:
    from torch import Tensor

ROUNDS = 100
"""Rounds after which clusters stay as they are, settled or not."""

SAME = 1e-6
"""Squared distance of unit rows up to which they are duplicates."""


def spread_seeds(unit: Tensor, count: int, seed: int) -> Tensor:
    """(m,) distinct indices of at most `count` of the (N, D) unit rows, in the order of choice (k-means++).

    Each is drawn by lot, in proportion to its squared distance from the nearest one before it; the lots come from a
    generator of their own, started at `seed`, so that fewer seeds are the first of more. Duplicates of a seed are none.
    """
    lots = torch.rand(count, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).tolist()
    weight = torch.ones(len(unit), dtype=torch.float64, device=unit.device)
    nearest = torch.full_like(weight, float("inf"))
    picks: list[Tensor] = []
    for lot in lots:
        reach = weight.cumsum(0)
        if not bool(reach[-1] > 0):
            break
        pick = torch.searchsorted(reach, reach[-1:] * lot, right=True).clamp(max=len(unit) - 1)
        distance = (unit - unit[pick]).square().sum(1).to(torch.float64)
        nearest = torch.minimum(nearest, torch.where(distance > SAME, distance, 0.0))
        weight = nearest
        picks.append(pick)
    return torch.cat(picks)


def clusters(unit: Tensor, centres: Tensor) -> Tensor:
    """(N,) number of the cluster of each of the (N, D) unit rows, once nothing changes; some may stay empty.

    A row joins the centre of highest cosine, the first of equal ones; a centre moves to the mean of its rows.
    centres: (K, D) to begin with.
    """
    label: Tensor | None = None
    for _ in range(ROUNDS):
        cosine = unit @ unit_rows(centres).T
        joined = (cosine >= cosine.amax(1, keepdim=True) - SLACK).int().argmax(1)
        if label is not None and torch.equal(joined, label):
            break
        label = joined
        empty = torch.bincount(label, minlength=len(centres)) == 0
        centres = torch.where(empty[:, None], centres, group_means(unit, label, len(centres)))
    assert label is not None
    return label


def loss(unit: Tensor, label: Tensor) -> Tensor:
    """() mean squared distance of the (N, D) rows from the mean of their cluster."""
    means = group_means(unit, label, int(label.max()) + 1)
    return (unit - means[label]).square().sum(1).mean()


def bend(losses: Sequence[Tensor]) -> int:
    """Index of the middle of the three neighbouring losses that bend most, the first of equal ones.

    The last index where there are fewer than three.
    """
    if len(losses) < 3:
        return len(losses) - 1
    value = torch.stack(list(losses))
    return int(first_highest(value[2:] - 2.0 * value[1:-1] + value[:-2])) + 1


def first_nearest(score: Tensor, label: Tensor) -> Tensor:
    """(N,) the row that stands for each row: the first one of the highest (N,) `score` among those of its `label`."""
    groups = int(label.max()) + 1
    best = score.new_full((groups,), float("-inf")).scatter_reduce(0, label, score, "amax")
    index = torch.arange(len(label), device=label.device)
    among = torch.where(score >= best[label] - SLACK, index, len(label))
    return torch.full((groups,), len(label), device=label.device).scatter_reduce(0, label, among, "amin")[label]
