"""CDPruner without a CLIP text tower, step by step in float64: determinants instead of a Cholesky recursion."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from tests.reference.divprune import cosine, first_best

SPANNED = 1e-5


def relevance(tokens: Tensor, question: Tensor, theta: float | None) -> list[float]:
    """How much each token has to do with the question."""
    if len(question) == 0:
        scaled = [1.0] * len(tokens)
    else:
        raw = [sum(cosine(token, word) for word in question) / len(question) for token in tokens]
        low, high = min(raw), max(raw)
        scaled = [(value - low) / (high - low) if high - low > 1e-6 else 1.0 for value in raw]
    if theta is None:
        return scaled
    return [math.exp(theta / (2.0 * (1.0 - theta)) * value) for value in scaled]


def outside_span(vector: Tensor, chosen: list[Tensor]) -> float:
    """Squared distance of a vector from the span of others, by least squares."""
    if not chosen:
        return float(vector @ vector)
    basis = torch.stack(chosen, 1)
    rest = vector - basis @ (torch.linalg.pinv(basis, rtol=1e-6) @ vector)
    return float(rest @ rest)


def cdpruner(tokens: Tensor, question: Tensor, count: int, theta: float | None) -> list[int]:
    """Indices that CDPruner keeps of the (N, D) tokens of one clip.

    A greedy DPP step multiplies the determinant of the kernel by r^2 times the squared distance of the unit vector
    from the span of those chosen before; that distance is taken directly here.
    """
    weight = relevance(tokens, question, theta)
    wide = tokens.double()
    unit = [row / row.norm() if float(row.norm()) > 0 else row for row in wide]
    chosen: list[int] = []
    while len(chosen) < count:
        gain = {}
        for i in range(len(tokens)):
            if i not in chosen:
                distance = outside_span(unit[i], [unit[j] for j in chosen])
                gain[i] = weight[i] ** 2 * distance if distance > SPANNED else 0.0
        if max(gain.values()) <= 0.0:
            gain = {i: weight[i] for i in gain}
        chosen.append(first_best(gain))
    return sorted(chosen)
