"""DivPrune step by step, in float64, from its specification."""

from __future__ import annotations

import math

from torch import Tensor

TIE = 1e-6


def cosine(a: Tensor, b: Tensor) -> float:
    """Cosine of two vectors; 0 when one of them is zero."""
    a, b = a.double(), b.double()
    lengths = math.sqrt(float(a @ a)) * math.sqrt(float(b @ b))
    return float(a @ b) / lengths if lengths > 0 else 0.0


def first_best(scores: dict[int, float]) -> int:
    """The first key whose score no other beats by more than rounding."""
    best = max(scores.values())
    return min(key for key, score in scores.items() if score >= best - TIE)


def divprune(tokens: Tensor, count: int) -> list[int]:
    """Indices that DivPrune keeps of the (N, D) tokens of one clip."""
    n = len(tokens)
    distance = [[1.0 - cosine(tokens[i], tokens[j]) for j in range(n)] for i in range(n)]
    to_nearest = {i: min((distance[i][j] for j in range(n) if j != i), default=0.0) for i in range(n)}
    chosen = [first_best(to_nearest)]
    while len(chosen) < count:
        rest = [i for i in range(n) if i not in chosen]
        chosen.append(first_best({i: min(distance[i][j] for j in chosen) for i in rest}))
    return sorted(chosen)
