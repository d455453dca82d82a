"""Group tokens: density peaks, connected components, and unions of overlapping sets."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from framefusion.core.ops.selection import highest

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


ROWS = 1024
"""Rows of a similarity matrix held at once in float32."""


def similar_pairs(unit: Tensor, threshold: float) -> Tensor:
    """(N, N) bool, symmetric, True where the cosine of two of the (N, D) unit rows exceeds `threshold`; no loops."""
    rows = [unit[start : start + ROWS] @ unit.T > threshold for start in range(0, len(unit), ROWS)]
    pairs = torch.cat(rows)
    pairs = pairs | pairs.T
    return pairs.fill_diagonal_(False)


def components(pairs: Tensor) -> Tensor:
    """(N,) lowest index of each node's connected component. pairs: (N, N) bool, symmetric."""
    label = torch.arange(len(pairs), device=pairs.device)
    while True:
        low = torch.minimum(label, _lowest_neighbour(pairs, label))
        hooked = label.clone().scatter_reduce_(0, label, low, "amin")
        after = torch.minimum(hooked, low)
        after = after[after]
        if torch.equal(after, label):
            return label
        label = after


def _lowest_neighbour(pairs: Tensor, label: Tensor) -> Tensor:
    rows = [
        torch.where(pairs[start : start + ROWS], label[None, :], len(pairs)).amin(1)
        for start in range(0, len(pairs), ROWS)
    ]
    return torch.cat(rows)


def united(nodes: int, one: Tensor, other: Tensor) -> Tensor:
    """(nodes,) lowest number in the component of each node; one, other: (E,) ends of the edges."""
    label = torch.arange(nodes, device=one.device)
    while True:
        low = torch.minimum(label[one], label[other])
        after = label.clone()
        # The old representatives are lowered too, so that whole components move at once.
        for place in (one, other, label[one], label[other]):
            after.scatter_reduce_(0, place, low, "amin")
        after = after[after]
        if torch.equal(after, label):
            return label
        label = after


def united_until_settled(nodes: int, one: Tensor, other: Tensor) -> Tensor:
    """As `united`, but ends as soon as every label is that of a node which has its own, as STTM's code does.

    Labels pass along all edges at once, and then each node takes the label of the node its label names. Ends that only
    a third node connects may keep labels of their own.
    """
    label = torch.arange(nodes, device=one.device)
    while True:
        low = torch.minimum(label[one], label[other])
        label = label.scatter_reduce(0, one, low, "amin").scatter_reduce(0, other, low, "amin")
        label = label[label]
        if torch.equal(label[label], label):
            return label
