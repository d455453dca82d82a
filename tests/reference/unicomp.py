"""UniComp step by step, in lists, for one clip, from its specification; the count is exact as the method has it."""

from __future__ import annotations

import math

from tests.reference.holov import seats
from tests.reference.vectors import Vector, cosine, mean


def groups_of(means: list[Vector], distance: float, longest: int) -> list[int]:
    """Number of the group of each frame."""
    groups, first = [0], 0
    for frame in range(1, len(means)):
        if 1.0 - cosine(means[frame], means[first]) <= distance and frame - first < longest:
            groups.append(groups[-1])
        else:
            groups.append(groups[-1] + 1)
            first = frame
    return groups


def ranked(values: list[Vector], distance: float) -> tuple[list[int], int, list[list[int]]]:
    """Unique tokens first, how many they are, and which tokens each is like."""
    like = [[round(cosine(a, b), 5) for b in values] for a in values]
    alike = [[j for j in range(len(values)) if j == i or 1.0 - like[i][j] < distance] for i in range(len(values))]
    order = sorted(range(len(values)), key=lambda i: (round(sum(like[i]) / len(values), 5), i))
    unique: list[int] = []
    for i in order:
        if not any(j in unique for j in alike[i]):
            unique.append(i)
    return unique + [i for i in order if i not in unique], len(unique), alike


def shared_out(means: list[Vector], sizes: list[int], unique: list[int], count: int) -> list[int]:
    """Tokens of each frame that stay."""
    like = [round(sum(cosine(a, b) for b in means) / len(means), 5) for a in means]
    power = [math.exp(math.sqrt(len(means)) * (sum(like) / len(like) - one)) for one in like]
    weights, most = [one / sum(power) for one in power], max(1, 2 * (count // len(means)))
    given = [0] * len(means)
    for room in ([min(most, number) for number in unique], unique, sizes):
        free = [most - has for most, has in zip(room, given, strict=True)]
        more = seats(weights, free, min(count - sum(given), sum(free)))
        given = [has + new for has, new in zip(given, more, strict=True)]
    return given


def unicomp(
    hidden: list[Vector],
    frame: list[int],
    place: list[int],
    size: list[float],
    count: int,
    frames: float = 0.005,
    tokens: float = 0.2,
) -> dict[int, Vector]:
    """Survivors of one clip and their values."""
    members = [[i for i in range(len(hidden)) if frame[i] == f] for f in range(max(frame) + 1)]
    groups = groups_of([mean([hidden[i] for i in own]) for own in members], frames, len(hidden) // count)
    parts: list[list[list[int]]] = []
    for number in range(groups[-1] + 1):
        inside = [i for i in range(len(hidden)) if groups[frame[i]] == number]
        parts.append([[i for i in inside if place[i] == p] for p in sorted({place[i] for i in inside})])
    fused = [[_weighted(hidden, cell, size) for cell in cells] for cells in parts]
    rankings = [ranked(own, tokens) for own in fused]
    given = shared_out([mean(own) for own in fused], [len(own) for own in fused], [one[1] for one in rankings], count)
    values = {}
    for cells, own, (order, _, alike), seats_here in zip(parts, fused, rankings, given, strict=True):
        for i in order[:seats_here]:
            near = mean([own[j] for j in alike[i]])
            values[cells[i][0]] = [(x + y) / 2 for x, y in zip(own[i], near, strict=True)]
    return dict(sorted(values.items()))


def _weighted(hidden: list[Vector], tokens: list[int], size: list[float]) -> Vector:
    total = sum(size[i] for i in tokens)
    return [sum(size[i] * hidden[i][d] for i in tokens) / total for d in range(len(hidden[0]))]
