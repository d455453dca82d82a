"""VisPruner step by step, in float64, for one picture, from its specification."""

from __future__ import annotations

import math

from torch import Tensor

PER_ROUND = 8


def cosine(a: list[float], b: list[float]) -> float:
    """1 within 1e-6 of it, so that duplicates tie; 0 when one of the vectors is zero."""
    lengths = math.sqrt(sum(x * x for x in a)) * math.sqrt(sum(x * x for x in b))
    like = sum(x * y for x, y in zip(a, b, strict=True)) / lengths if lengths > 0 else 0.0
    return 1.0 if like > 1.0 - 1e-6 else like


def vispruner(saliency: Tensor, features: Tensor, count: int, important: float) -> list[int]:
    """The tokens of one picture that stay, in reading order."""
    scores, rows = saliency.tolist(), features.double().tolist()
    by_score = sorted(range(len(scores)), key=lambda token: -scores[token])
    first = math.floor(count * important)
    kept, residual = by_score[:first], by_score[first:]
    diverse = count - first
    if diverse == 0:
        return sorted(kept)
    while len(residual) > diverse:
        even = [token for rank, token in enumerate(residual) if rank % 2 == 0]
        odd = [token for rank, token in enumerate(residual) if rank % 2 == 1]
        closest = {token: max(cosine(rows[token], rows[other]) for other in odd) for token in even}
        most_similar_first = sorted(even, key=lambda token: -closest[token])
        leaving = min(PER_ROUND, len(residual) - diverse)
        residual = most_similar_first[leaving:] + odd
    return sorted(kept + residual)
