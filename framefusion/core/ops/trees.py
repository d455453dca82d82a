"""Trees of alike tokens over time, and clusters of trees in each frame (FlashVID)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from framefusion.core.ops.budget import apportion
from framefusion.core.ops.clustering import density_clusters
from framefusion.core.ops.matching import nearest
from framefusion.core.ops.selection import lowest_of_each

if TYPE_CHECKING:
    from torch import Tensor

NEIGHBOURS = 7
NO_LINK = -2.0
"""Likeness of a token that has nobody to link to; below every cosine."""


def roots_over_time(
    unit: Tensor, frame: Tensor, segment: Tensor, free: Tensor, threshold: float, most: Tensor
) -> Tensor:
    """(N,) root of the tree of each token: it links to the one most like it anywhere in the frame before.

    unit: (N, D) rows of length one. frame: (N,) 0..F-1. segment: (F,) no link leaves a segment. free: (N,) bool, the
    tokens that link and are linked to. threshold: cosine that a link exceeds. most: (S,) links that each segment may
    have; the most alike ones stand.
    """
    parent = torch.arange(len(unit), device=unit.device)
    likeness = torch.full((len(unit),), NO_LINK, device=unit.device)
    for number in range(1, len(segment)):
        here, there = (((frame == at) & free).nonzero().flatten() for at in (number, number - 1))
        if segment[number] == segment[number - 1] and len(here) and len(there):
            parent[here] = there[nearest(unit[here], unit[there])]
            # Rounded, so that equal cosines tie.
            likeness[here] = (unit[here] * unit[parent[here]]).sum(1).mul(1e6).round().div(1e6)
    links = lowest_of_each(-likeness, segment[frame], most) & (likeness > threshold)
    parent = torch.where(links, parent, torch.arange(len(unit), device=unit.device))
    while not torch.equal(parent, parent[parent]):
        parent = parent[parent]
    return parent


def clusters_of_trees(
    means: Tensor, root: Tensor, frame: Tensor, segment: Tensor, seats: Tensor
) -> tuple[Tensor, Tensor]:
    """(N,) root of the cluster each root is part of, -1 where none is left for it, and (N,) its share in the mean.

    means: (N, D), of the trees at their roots. root: (N,) as a root names itself, -1 for tokens that are none. seats:
    (S,) clusters in each segment, which its frames share by their numbers of roots.
    """
    head, share = torch.full_like(root, -1), torch.zeros(len(root), device=root.device)
    is_root = root == torch.arange(len(root), device=root.device)
    counts = torch.bincount(frame[is_root], minlength=len(segment))
    for number, wanted in enumerate(seats.tolist()):
        frames = (segment == number).nonzero().flatten()
        given = apportion(counts[frames], counts[frames], wanted).tolist()
        for at, count in zip(frames.tolist(), given, strict=True):
            if count:
                inside = (is_root & (frame == at)).nonzero().flatten()
                centres, label = density_clusters(means[inside], count, min(NEIGHBOURS, count))
                head[inside] = inside[centres[label]]
                share[inside] = 1.0 / torch.bincount(label)[label]
    return head, share
