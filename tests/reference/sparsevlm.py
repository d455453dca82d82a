"""SparseVLM, plainly (2410.04417): rating words, ranking by their attention, recycling by density clusters."""

from __future__ import annotations

import math

Vector = list[float]


def raters(visual: list[Vector], text: list[Vector]) -> list[bool]:
    """Words whose share in the visual tokens' softmax over all words is above average."""
    shares = [0.0] * len(text)
    for token in visual:
        products = [sum(a * b for a, b in zip(token, word, strict=True)) for word in text]
        top = max(products)
        weights = [math.exp(product - top) for product in products]
        for number, weight in enumerate(weights):
            shares[number] += weight / sum(weights) / len(visual)
    average = sum(shares) / len(shares)
    above = [share > average for share in shares]
    return above if any(above) else [True] * len(text)


def scores(attention: list[list[Vector]], rating: list[bool]) -> list[float]:
    """attention: [heads][words][tokens]. Mean over heads and rating words, per token."""
    rows = [head[word] for head in attention for word, rates in enumerate(rating) if rates]
    return [sum(row[token] for row in rows) / len(rows) for token in range(len(attention[0][0]))]


def ranked(score: list[float]) -> list[int]:
    return sorted(range(len(score)), key=lambda token: (-score[token], token))


def recycle(score: list[float], count: int, hidden: list[Vector]) -> dict[int, list[int]]:
    """Members of every survivor: the best stand alone, the better 30 % of the rest form clusters around centres."""
    order = ranked(score)
    pool = int(0.3 * (len(score) - count)) + 1
    clusters = min(pool // 10 + 1, count - 1)
    if clusters < 1:
        return {token: [token] for token in order[:count]}
    groups = {token: [token] for token in order[: count - clusters]}
    rest = sorted(order[count - clusters :][: max(pool, clusters)])
    far = {a: {b: _square(hidden[a], hidden[b]) / len(hidden[0]) for b in rest} for a in rest}
    spread = {a: sum(sorted(far[a].values())[:7]) / min(7, len(rest)) for a in rest}
    widest = max(distance for row in far.values() for distance in row.values())
    peak = {}
    for a in rest:
        denser = [far[a][b] for b in rest if spread[b] < spread[a] or (spread[b] == spread[a] and b < a)]
        peak[a] = math.sqrt(min(denser, default=widest)) * math.exp(-spread[a])
    centres = sorted(sorted(rest, key=lambda a: (-peak[a], a))[:clusters])
    for a in rest:
        home = a if a in centres else min(centres, key=lambda c, a=a: (far[a][c], c))
        groups.setdefault(home, []).append(a)
    return groups


def _square(a: Vector, b: Vector) -> float:
    return sum((x - y) ** 2 for x, y in zip(a, b, strict=True))
