"""Frames by Taylor residual in lists, for one clip."""

from __future__ import annotations

import math

from tests.reference.vectors import Vector, mean


def residuals(path: list[Vector], order: int) -> list[float]:
    """How far each point lies from where those before it lead."""
    length = sum(math.hypot(*point) for point in path) / len(path)
    found = [math.inf]
    for t in range(1, len(path)):
        guess = []
        for d in range(len(path[0])):
            x = [path[s][d] for s in range(t)]
            guess.append(x[-1])
            if order >= 1 and t >= 2:
                guess[-1] += x[-1] - x[-2]
            if order >= 2 and t >= 3:
                guess[-1] += ((x[-1] - x[-2]) - (x[-2] - x[-3])) / 2
        found.append(round(math.dist(path[t], guess) / max(length, 1e-30), 5))
    return found


def chosen(path: list[Vector], count: int, order: int) -> list[int]:
    """Peaks first, then the others, the highest first."""
    score = residuals(path, order)
    beside = [-math.inf, *score, -math.inf]
    peaks = [t for t in range(len(score)) if beside[t] < score[t] >= beside[t + 2]]
    ranked = sorted(range(len(score)), key=lambda t: (t not in peaks, -score[t], t))
    return sorted(ranked[:count])


def kept(hidden: list[Vector], frame: list[int], count: int, order: int) -> list[int]:
    """Tokens of the chosen frames."""
    path = [mean([hidden[i] for i in range(len(hidden)) if frame[i] == f]) for f in range(max(frame) + 1)]
    frames = chosen(path, count, order)
    return [i for i in range(len(hidden)) if frame[i] in frames]
