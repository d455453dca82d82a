"""HoloV step by step, in float64, for one clip, from its specification; surplus seats go to the other crops."""

from __future__ import annotations

import math

from torch import Tensor

CLOSE = 1e-4


def cosine(a: list[float], b: list[float]) -> float:
    """0 when one of the vectors is zero."""
    lengths = math.sqrt(sum(x * x for x in a)) * math.sqrt(sum(x * x for x in b))
    return sum(x * y for x, y in zip(a, b, strict=True)) / lengths if lengths > 0 else 0.0


def cut(pictures: list[int], crops: int) -> list[list[int]]:
    """Runs of tokens, as even as can be, within each picture. pictures: number of each token's picture."""
    found: list[list[int]] = []
    for picture in sorted(set(pictures)):
        tokens = [token for token, number in enumerate(pictures) if number == picture]
        parts = min(crops, len(tokens))
        runs: list[list[int]] = [[] for _ in range(parts)]
        for place, token in enumerate(tokens):
            runs[place * parts // len(tokens)].append(token)
        found += runs
    return found


def variance(token: int, crop: list[int], rows: list[list[float]]) -> float:
    likeness = [0.0 if other == token else cosine(rows[token], rows[other]) for other in crop]
    middle = sum(likeness) / len(likeness)
    return sum((like - middle) ** 2 for like in likeness) / len(likeness)


def seats(weights: list[float], room: list[int], count: int) -> list[int]:
    """Proportional seats: first fill the groups that are too small for their share, then round the others."""
    given = [0] * len(room)
    free = set(range(len(room)))
    while True:
        left = count - sum(given)
        total = sum(weights[i] for i in free)
        share = {i: left * (weights[i] / total if total > 0 else 1 / len(free)) for i in free}
        full = [i for i in free if share[i] > room[i] + CLOSE]
        if not full:
            break
        for i in full:
            given[i] = room[i]
            free.remove(i)
    for i in free:
        given[i] = math.floor(share[i] + CLOSE)
    heaviest_first = sorted(free, key=lambda i: (-round(weights[i], 6), i))
    for i in heaviest_first:
        if sum(given) < count and given[i] < room[i]:
            given[i] += 1
    return given


def holov(
    hidden: Tensor,
    saliency: Tensor,
    pictures: list[int],
    count: int,
    crops: int = 16,
    alpha: float = 0.09,
    scale: str = "crop",
) -> list[int]:
    """The tokens of one clip that stay, in reading order. scale: "crop" or "clip", what variety is scaled over."""
    rows, attention = hidden.double().tolist(), [float(score) for score in saliency]
    parts = cut(pictures, crops)
    various = {token: variance(token, crop, rows) for crop in parts for token in crop}
    score = list(attention)
    for part in parts if scale == "crop" else [list(range(len(rows)))]:
        middle = sum(various[token] for token in part) / len(part)
        factor = sum(attention[token] for token in part) / len(part) / middle if middle > 1e-30 else 0.0
        for token in part:
            score[token] += alpha * various[token] * factor
    means = [sum(score[token] for token in crop) / len(crop) for crop in parts]
    weights = [value / sum(means) if sum(means) > 0 else 1 / len(means) for value in means]
    kept = []
    for crop, quota in zip(parts, seats(weights, [len(crop) for crop in parts], count), strict=True):
        kept += sorted(crop, key=lambda token: -attention[token])[:quota]
    return sorted(kept)
