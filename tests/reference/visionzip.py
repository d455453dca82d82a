"""VisionZip step by step, in float64, for one picture, from its specification."""

from __future__ import annotations

import math

from torch import Tensor

TIE = 1e-6


def cosine(a: list[float], b: list[float]) -> float:
    """0 when one of the vectors is zero."""
    lengths = math.sqrt(sum(x * x for x in a)) * math.sqrt(sum(x * x for x in b))
    return sum(x * y for x, y in zip(a, b, strict=True)) / lengths if lengths > 0 else 0.0


def mean(rows: list[list[float]], weights: list[float]) -> list[float]:
    total = sum(weights)
    return [
        sum(weight * row[channel] for row, weight in zip(rows, weights, strict=True)) / total
        for channel in range(len(rows[0]))
    ]


def visionzip(
    features: Tensor,
    saliency: Tensor,
    keys: Tensor,
    dominant: int,
    contextual: int,
    strict: bool = False,
    size: Tensor | None = None,
) -> tuple[list[int], list[list[float]]]:
    """Survivors of one picture in reading order, and their values. size: originals behind each token, ones if None."""
    rows, looks = features.double().tolist(), keys.double().tolist()
    sizes = [1.0] * len(rows) if size is None else size.tolist()
    by_score = sorted(range(len(rows)), key=lambda token: -float(saliency[token]))
    values = {token: rows[token] for token in by_score[:dominant]}
    rest = [token for token in range(len(rows)) if token not in values]
    if contextual == 0:
        return sorted(values), [values[token] for token in sorted(values)]
    stride = len(rest) // contextual
    targets = [rest[number * stride] for number in range(contextual)]
    assigned: dict[int, list[int]] = {target: [] for target in targets}
    for token in rest:
        if token not in targets:
            likeness = [cosine(looks[token], looks[target]) for target in targets]
            best = next(i for i, like in enumerate(likeness) if like >= max(likeness) - TIE)
            assigned[targets[best]].append(token)
    for target, members in assigned.items():
        if not members:
            values[target] = rows[target]
        elif strict:
            joined = mean([rows[token] for token in members], [1.0] * len(members))
            values[target] = [a + b for a, b in zip(rows[target], joined, strict=True)]
        else:
            group = [target, *members]
            values[target] = mean([rows[token] for token in group], [sizes[token] for token in group])
    return sorted(values), [values[token] for token in sorted(values)]
