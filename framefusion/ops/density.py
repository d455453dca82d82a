"""Density clustering with nearest neighbours (DPC-KNN), without its customary noise."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from framefusion.ops.pick import highest

if TYPE_CHECKING:
    from torch import Tensor

SAME = 1e-6
"""Squared distances below this share of the squared lengths are zero: such points count as duplicates."""


def density_clusters(points: Tensor, count: int, neighbours: int = 7) -> tuple[Tensor, Tensor]:
    """`count` clusters of the (n, D) points: (count,) ascending indices of their centres, (n,) slot of each point's.

    A point is dense when the mean squared distance to its `neighbours` nearest points, itself included, is small.
    Centres are dense and far from any denser point. Of two equally dense points neither is denser, but for duplicates,
    of which the earlier one is.
    """
    square = _squared_distances(points)
    spread = square.topk(min(neighbours, len(square)), largest=False).values.mean(1)
    place = torch.arange(len(square), device=square.device)
    earlier = place[None, :] < place[:, None]
    same = (square == 0.0) & (spread[None, :] == spread[:, None])
    denser = (spread[None, :] < spread[:, None]) | (same & earlier)
    to_denser = square.masked_fill(~denser, float("inf")).amin(1)
    to_denser = torch.where(denser.any(1), to_denser, square.max())
    # Ranked by logarithm: exp(-spread) would underflow for points of large norm.
    centres = highest(0.5 * to_denser.log() - spread, count).sort().values
    label = square[:, centres].argmin(1)
    label[centres] = torch.arange(len(centres), device=label.device)
    return centres, label


def _squared_distances(points: Tensor) -> Tensor:
    """(n, n) squared distances divided by the width; rows of duplicates are equal to the bit."""
    wide = points.to(torch.float32)
    wide = wide - wide.mean(0)
    length = wide.square().sum(1)
    scale = length[:, None] + length[None, :]
    square = scale - 2.0 * (wide @ wide.T)
    square = torch.where(square <= SAME * scale, 0.0, square).fill_diagonal_(0.0)
    square = torch.minimum(square, square.T)
    first = (square == 0.0).int().argmax(1)
    return square[first][:, first] / points.shape[1]
