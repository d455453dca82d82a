"""HoliTom's inner stage, plainly (2505.21334), with correct weights."""

from __future__ import annotations

import math

from tests.reference import fastv

Vector = list[float]


def cosine(a: Vector, b: Vector) -> float:
    length = math.sqrt(sum(x * x for x in a)) * math.sqrt(sum(x * x for x in b))
    return sum(x * y for x, y in zip(a, b, strict=True)) / length if length > 0 else 0.0


def merge(
    hidden: list[Vector], attention: list[float], size: list[float], keep: float
) -> tuple[list[int], list[Vector]]:
    """Survivors of one clip and their values: means over all originals that joined them."""
    kept = fastv.survivors(attention, keep)
    groups = {token: [token] for token in kept}
    for token in range(len(hidden)):
        if token not in groups:
            best = max(kept, key=lambda other, token=token: (cosine(hidden[token], hidden[other]), attention[other]))
            groups[best].append(token)
    values = []
    for token in kept:
        total = sum(size[member] for member in groups[token])
        columns = range(len(hidden[0]))
        values.append([sum(size[m] * hidden[m][c] for m in groups[token]) / total for c in columns])
    return kept, values
