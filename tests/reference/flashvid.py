"""FlashVID step by step, in float64, for one clip, from its specification; the count is exact as the method has it."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from tests.reference.divprune import cosine, first_best
from tests.reference.fastvid import cut, nearest
from tests.reference.holov import seats
from tests.reference.prunevid import clusters


def divided(weights: list[int], count: int) -> list[int]:
    """Seats of groups by their sizes, no group more than it has."""
    return seats([weight / max(1, sum(weights)) for weight in weights], weights, count)


def unlike(tokens: list[int], rows: Tensor, attention: list[float], count: int) -> list[int]:
    """Of the tokens of a frame, those of greatest attention times distance to the nearest of those chosen before."""
    distance = {(i, j): 1.0 - cosine(rows[i], rows[j]) for i in tokens for j in tokens}
    chosen: list[int] = []
    while len(chosen) < count:
        rest = [i for i in tokens if i not in chosen]
        others = {i: chosen or [j for j in tokens if j != i] for i in rest}
        gap = {i: min((distance[i, j] for j in others[i]), default=0.0) for i in rest}
        chosen.append(first_best({i: attention[i] * gap[i] for i in rest}))
    return chosen


def flashvid(
    hidden: Tensor,
    frame: list[int],
    attention: Tensor,
    count: int,
    alpha: float = 0.7,
    segments: int = 8,
    tau: float = 0.9,
    link: float = 0.8,
    size: Tensor | None = None,
) -> dict[int, Tensor]:
    """Survivors of one clip and their values."""
    rows = hidden.double()
    sizes = [1.0] * len(rows) if size is None else size.double().tolist()
    scores = (attention / attention.max()).double().tolist()
    members = [[i for i in range(len(rows)) if frame[i] == f] for f in range(max(frame) + 1)]
    budget = divided([len(tokens) for tokens in members], count)
    values: dict[int, Tensor] = {}
    for frames in cut([rows[tokens].mean(0) for tokens in members], segments, tau):
        chosen = {f: unlike(members[f], rows, scores, math.ceil(round(budget[f] * alpha, 6))) for f in frames}
        values.update({i: rows[i] for picks in chosen.values() for i in picks})
        free = {f: [i for i in members[f] if i not in chosen[f]] for f in frames}
        wanted = sum(budget[f] - len(chosen[f]) for f in frames)
        trees = grown(free, frames, rows, link, sum(map(len, free.values())) - wanted)
        means = {root: weighted(rows, tree, sizes) for root, tree in trees.items()}
        by_frame = [[root for root in free[f] if root in trees] for f in frames]
        for roots, places in zip(by_frame, divided([len(roots) for roots in by_frame], wanted), strict=True):
            if places:
                points = [means[root] for root in roots]
                centres, label = clusters(points, places, min(7, places))
                for number, centre in enumerate(centres):
                    group = [point for point, own in zip(points, label, strict=True) if own == number]
                    values[roots[centre]] = torch.stack(group).mean(0)
    return dict(sorted(values.items()))


def grown(free: dict[int, list[int]], frames: list[int], rows: Tensor, link: float, most: int) -> dict[int, list[int]]:
    """The tokens of each tree, by its root."""
    parent, likeness = {}, {}
    for f in frames[1:]:
        for i in free[f]:
            if free[f - 1]:
                parent[i] = nearest(i, free[f - 1], rows)
                likeness[i] = round(cosine(rows[i], rows[parent[i]]), 6)
    strongest = sorted(likeness, key=lambda i: (-likeness[i], i))[:most]
    links = {i: parent[i] for i in strongest if likeness[i] > link}
    trees: dict[int, list[int]] = {}
    for f in frames:
        for i in free[f]:
            root = i
            while root in links:
                root = links[root]
            trees.setdefault(root, []).append(i)
    return trees


def weighted(rows: Tensor, tokens: list[int], sizes: list[float]) -> Tensor:
    return sum(sizes[i] * rows[i] for i in tokens) / sum(sizes[i] for i in tokens)  # type: ignore[return-value]
