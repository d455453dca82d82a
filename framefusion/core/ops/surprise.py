"""Moments at which a path leaves the way it was on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from framefusion.core.ops.selection import highest

if TYPE_CHECKING:
    from torch import Tensor

# Residuals that agree to so many decimals of the path's average length tie.
DECIMALS = 5


def taylor_residuals(path: Tensor, order: int) -> Tensor:
    """(T,) how far each point of the path lies from where the points before it lead, by Taylor's series to `order`.

    path: (T, D) float32. order: 0, the point before; 1, and its velocity; 2, and half of its acceleration. Differences
    are taken backwards; points with fewer before them use what there is. The first is infinitely far from nowhere.
    """
    expected, difference = path[:-1].clone(), path
    for number in range(1, order + 1):
        difference = difference[1:] - difference[:-1]
        expected[number:] += difference[:-1] / number
    scale = torch.linalg.vector_norm(path, dim=-1).mean().clamp(min=torch.finfo(path.dtype).tiny)
    away = torch.round(torch.linalg.vector_norm(path[1:] - expected, dim=-1) / scale, decimals=DECIMALS)
    return torch.cat([away.new_full((1,), torch.inf), away])


def peaks_first(score: Tensor, count: int) -> Tensor:
    """(count,) indices: the highest of those above their neighbours, and when these are used up the highest others.

    score: (T,). Of equal neighbours the first one is the peak; earlier ones come first among equals.
    """
    edge = score.new_full((1,), -torch.inf)
    peak = (score > torch.cat([edge, score[:-1]])) & (score >= torch.cat([score[1:], edge]))
    order = highest(score, len(score))
    return order[highest(peak[order].int(), len(score))][:count]
