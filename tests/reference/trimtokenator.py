"""TrimTokenator step by step, in float64, from its specification."""

from __future__ import annotations

from torch import Tensor

from tests.reference.divprune import cosine, first_best


def trimtokenator(tokens: Tensor, question: Tensor, count: int, near: float) -> list[int]:
    """Indices that TrimTokenator keeps of the (N, D) tokens of one clip."""
    n = len(tokens)
    pool = list(range(n))
    if len(question):
        score = []
        for token in tokens.double():
            squares = [float(((token - word) ** 2).sum()) for word in question.double()]
            score.append(-sum(squares) / len(squares))
        pool.sort(key=lambda i: (-score[i], i))
        pool = sorted(pool[: max(count, round(near * n), 1)])
    similarity = {i: {j: cosine(tokens[i], tokens[j]) for j in pool} for i in pool}
    chosen: list[int] = []
    while len(chosen) < count:
        average = {}
        for i in pool:
            if i not in chosen:
                others = chosen or [j for j in pool if j != i]
                average[i] = sum(similarity[i][j] for j in others) / max(1, len(others))
        chosen.append(first_best({i: -value for i, value in average.items()}))
    return sorted(chosen)
