"""AdaptPrune, plainly (2503.08019): centre-weighted attention, then greedy soft suppression within each frame."""

from __future__ import annotations

import math

from tests.reference.holitom import cosine

Cell = tuple[int, int, int]


def gaussian(distance: float, sigma: float) -> float:
    return math.exp(-(distance**2) / (2 * sigma**2))


def centre_weight(cell: Cell, cells: list[Cell], sigma: float) -> float:
    """The centre Gaussian at one cell; the outermost cells of its frame lie at -1 and 1."""
    weight = 1.0
    for axis in (1, 2):
        last = max(other[axis] for other in cells if other[0] == cell[0])
        weight *= gaussian(2 * cell[axis] / last - 1 if last else 0.0, sigma)
    return weight


def survivors(
    attention: list[float],
    keys: list[list[float]],
    cells: list[Cell],
    keep: float,
    centre_sigma: float = 1.0,
    radius: float = 5.0,
    distance_sigma: float = 1.5,
    similarity_sigma: float = 0.05,
) -> list[int]:
    """cells: (frame, row, column) of each token of one clip."""
    count = max(1, math.floor(len(attention) * keep))
    score = [a * centre_weight(cell, cells, centre_sigma) for a, cell in zip(attention, cells, strict=True)]
    chosen: list[int] = []
    while len(chosen) < count:
        best = max(
            (token for token in range(len(score)) if token not in chosen), key=lambda token: (score[token], -token)
        )
        chosen.append(best)
        for token, (frame, row, column) in enumerate(cells):
            distance = math.hypot(row - cells[best][1], column - cells[best][2])
            if frame == cells[best][0] and distance <= radius:
                unlike = 1 - cosine(keys[token], keys[best])
                score[token] *= 1 - gaussian(distance, distance_sigma) * gaussian(unlike, similarity_sigma)
    return sorted(chosen)
