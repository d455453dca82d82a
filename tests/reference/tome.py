"""One block of ToMe for one picture, written plainly from the paper: lists and loops."""

from __future__ import annotations

import math


def cosine(a: list[float], b: list[float]) -> float:
    dot = sum(x * y for x, y in zip(a, b, strict=True))
    norm = math.sqrt(sum(x * x for x in a)) * math.sqrt(sum(x * x for x in b))
    return dot / norm if norm else 0.0


def joins_of(metric: list[list[float]], count: int, class_token: bool) -> dict[int, int]:
    """Which token joins which, for the `count` most similar pairs."""
    offers = []
    for place in range(0, len(metric), 2):
        if class_token and place == 0:
            continue
        partners = [other for other in range(1, len(metric), 2)]
        if partners:
            best = max(partners, key=lambda other: cosine(metric[place], metric[other]))
            offers.append((cosine(metric[place], metric[best]), place, best))
    offers.sort(key=lambda offer: -offer[0])
    return {place: partner for _, place, partner in offers[:count]}


def merge_block(
    values: list[list[float]], metric: list[list[float]], size: list[float], count: int, class_token: bool
) -> tuple[list[list[float]], list[float], list[int]]:
    """Merge `count` tokens. Returns values and sizes of the survivors in reading order, and their places."""
    joins = joins_of(metric, count, class_token)
    survivors = [place for place in range(len(values)) if place not in joins]
    merged, sizes = [], []
    for place in survivors:
        group = [place, *(joiner for joiner, partner in joins.items() if partner == place)]
        total = sum(size[member] for member in group)
        merged.append([sum(size[m] * values[m][c] for m in group) / total for c in range(len(values[place]))])
        sizes.append(total)
    return merged, sizes, survivors
