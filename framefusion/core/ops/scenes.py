"""Merge a clip in time and space: segments of alike frames, places that stand still in them, clusters of places."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

import torch

from framefusion.core.ops.budget import kept_count
from framefusion.core.ops.clustering import density_clusters
from framefusion.core.ops.selection import highest
from framefusion.core.ops.similarity import mean_pair_cosine, unit_rows
from framefusion.core.options import Keep

if TYPE_CHECKING:
    from torch import Tensor

FEW = 14
"""Groups of at most this many tokens are not clustered (PruneVid)."""


@dataclass(frozen=True)
class Scenes:
    """What a clip of n tokens merges into.

    head: (n,) token that stands for each token; a head names itself.
    share: (n,) float32 weight of each token in the mean of its head's group.
    group: (n,) number of the token's frame; for a static token, F plus the number of its segment.
    """

    head: Tensor
    share: Tensor
    group: Tensor


def frame_segments(values: Tensor, frame: Tensor, ratio: float = 0.25) -> Tensor:
    """(F,) ascending segment number of each frame: density clusters of the mean tokens, made contiguous.

    values: (n, D) float32. frame: (n,) numbers 0..F-1, none missing. ratio: clusters per frame, rounded down.
    """
    count = torch.bincount(frame)
    means = values.new_zeros(len(count), values.shape[1]).index_add_(0, frame, values) / count[:, None]
    _, label = density_clusters(means, kept_count(ratio, len(count), int))
    return torch.tensor(contiguous_segments(label.tolist()), device=frame.device)


def cut_segments(unit: Tensor, tau: float, segments: int) -> Tensor:
    """(F,) ascending segment number of each frame: cuts where neighbours are unlike, at least so many segments.

    unit: (F, D) sums of the frames' tokens, of length one. tau: cosine below which there is a cut.
    """
    cosine = (unit[1:] * unit[:-1]).sum(1)
    # So that frames that repeat tie, and the first of them is cut off.
    repeats = (unit[1:] == unit[:-1]).all(1) & (unit[1:] != 0.0).any(1)
    cosine = torch.where(repeats, 1.0, cosine.clamp(max=1.0))
    cut = (cosine < tau).index_fill(0, highest(-cosine, segments - 1), True)
    return torch.cat([cut.new_zeros(1), cut]).cumsum(0)


def merge_scenes(
    values: Tensor, frame: Tensor, patch: Tensor, segment: Tensor, tau: float, keep: Keep, few: int = FEW
) -> Scenes:
    """Static places become one token per segment, then static and dynamic tokens are clustered.

    values: (n, D) float32. frame: (n,) 0..F-1. patch: (n,) place in the frame. segment: (F,). tau: mean cosine above
    which a place is static. keep: share or number of clusters. few: groups of at most this many are not clustered.
    """
    head = torch.arange(len(values), device=values.device)
    share = torch.ones(len(values), device=values.device)
    group = frame.clone()
    unit = unit_rows(values)
    for number in range(int(segment.max()) + 1):
        inside = (segment[frame] == number).nonzero().flatten()
        still = inside[_is_static(unit[inside], patch[inside], tau)]
        if len(still):
            heads, share[still] = _static_heads(values[still], patch[still], keep, few)
            head[still] = still[heads]
            group[still] = len(segment) + number
    for number in range(len(segment)):
        moving = (group == number).nonzero().flatten()
        if len(moving):
            head[moving] = moving[_clustered(values[moving], keep, few)]
    return Scenes(head, share, group)


def _is_static(unit: Tensor, patch: Tensor, tau: float) -> Tensor:
    """(m,) whether the place of each of the (m, D) tokens of one segment stands still."""
    place = torch.unique(patch, return_inverse=True)[1]
    return (mean_pair_cosine(unit, place, int(place.max()) + 1) > tau)[place]


def _static_heads(values: Tensor, patch: Tensor, keep: Keep, few: int) -> tuple[Tensor, Tensor]:
    """Heads (m,) of the tokens of one segment's static places, and their shares (m,) in the mean of their place."""
    place = torch.unique(patch, return_inverse=True)[1]
    count = torch.bincount(place)
    means = values.new_zeros(len(count), values.shape[1]).index_add_(0, place, values) / count[:, None]
    token = torch.arange(len(values), device=values.device)
    first = torch.full_like(count, len(values)).scatter_reduce_(0, place, token, "amin")
    return first[_clustered(means, keep, few)][place], 1.0 / count[place]


def _clustered(points: Tensor, keep: Keep, few: int) -> Tensor:
    """(n,) index of the cluster centre that stands for each of the (n, D) points."""
    if len(points) <= few:
        return torch.arange(len(points), device=points.device)
    centres, label = density_clusters(points, kept_count(keep, len(points), int))
    return centres[label]


def contiguous_segments(labels: Sequence[int]) -> list[int]:
    """Segment number of each frame, ascending, from cluster labels that may come back later.

    Each cluster keeps its longest stretch (all that are tied), if that is longer than one frame. The frames between
    kept stretches join the longer neighbour, the left one on a tie.
    """
    stretches = [(label, len(list(group))) for label, group in groupby(labels)]
    longest: dict[int, int] = {}
    for label, length in stretches:
        longest[label] = max(length, longest.get(label, 0))
    kept = [label if 1 < length == longest[label] else None for label, length in stretches for _ in range(length)]
    return _numbered(_filled(kept))


def _filled(kept: list[int | None]) -> list[int]:
    filled: list[int] = []
    for start, (label, group) in _stretches(kept):
        if label is not None:
            filled += [label] * group
            continue
        left, right = _run(filled[::-1]), _run(kept[start + group :])
        neighbour = left if left[1] >= right[1] else right
        filled += [neighbour[0] or 0] * group
    return filled


def _stretches(kept: list[int | None]) -> list[tuple[int, tuple[int | None, int]]]:
    """(start, (label, length)) of every stretch of equal labels."""
    found, start = [], 0
    for label, group in groupby(kept):
        length = len(list(group))
        found.append((start, (label, length)))
        start += length
    return found


def _run(labels: Sequence[int | None]) -> tuple[int | None, int]:
    """(label, length) of the stretch that `labels` begins with."""
    for label, group in groupby(labels):
        return label, len(list(group))
    return None, 0


def _numbered(labels: list[int]) -> list[int]:
    return [number for number, (_, group) in enumerate(groupby(labels)) for _ in group]
