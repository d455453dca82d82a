"""VQToken's base step by step, in lists, for one clip, from its specification."""

from __future__ import annotations

from tests.reference.vectors import Vector, cosine, dot, mean, squared_distance, unit

ROUNDS = 100


def seeds_of(rows: list[Vector], lots: list[float]) -> list[int]:
    """The first by lot, each further one by lot weighed by its squared distance from the nearest of those before."""
    seeds: list[int] = []
    weights = [1.0] * len(rows)
    for lot in lots:
        if sum(weights) == 0.0:
            break
        left, pick = lot * sum(weights), 0
        while weights[pick] <= left:
            left -= weights[pick]
            pick += 1
        seeds.append(pick)
        for i, row in enumerate(rows):
            distance = squared_distance(row, rows[pick])
            weights[i] = min([distance if distance > 1e-6 else 0.0, *([weights[i]] if len(seeds) > 1 else [])])
    return seeds


def clustered(rows: list[Vector], centres: list[Vector]) -> list[int]:
    """Cluster of each row when no row changes its own any more."""
    labels: list[int] = []
    for _ in range(ROUNDS):
        now = []
        for row in rows:
            like = [round(dot(row, unit(centre)), 6) for centre in centres]
            now.append(like.index(max(like)))
        if now == labels:
            break
        labels = now
        for number in range(len(centres)):
            own = [row for row, label in zip(rows, labels, strict=True) if label == number]
            centres = [*centres[:number], mean(own) if own else centres[number], *centres[number + 1 :]]
    return labels


def loss_of(rows: list[Vector], labels: list[int]) -> float:
    groups = [[row for row, label in zip(rows, labels, strict=True) if label == number] for number in set(labels)]
    return sum(squared_distance(row, mean(group)) for group in groups for row in group) / len(rows)


def chosen(rows: list[Vector], seeds: list[int], tried: list[int], strict: bool) -> list[int]:
    """Labels for the number of clusters at the sharpest bend."""
    found = [clustered(rows, [rows[seed] for seed in seeds[:number]]) for number in tried]
    losses = [loss_of(rows, labels) for labels in found]
    if len(tried) < 3:
        return found[-1]
    bends = [round(losses[i + 2] - 2 * losses[i + 1] + losses[i], 6) for i in range(len(losses) - 2)]
    best = bends.index(max(bends))
    if not strict:
        return found[best + 1]
    number = min(max(tried[0], best + 4), len(seeds))
    return clustered(rows, [rows[seed] for seed in seeds[:number]])


def vqtoken_base(
    hidden: list[Vector], size: list[float], lots: list[float], least: int, strict: bool = False
) -> dict[int, Vector]:
    """Survivors of one clip and their values. lots: as many numbers in [0, 1) as there may be clusters."""
    rows = [unit(one) for one in hidden]
    seeds = seeds_of(rows, lots)
    first = min(least, len(seeds))
    steps = min(len(seeds) - first, 20)
    tried = [first + (len(seeds) - first) * step // max(1, steps) for step in range(steps + 1)]
    labels = chosen(rows, seeds, tried, strict)
    values = {}
    for number in set(labels):
        own = [i for i, label in enumerate(labels) if label == number]
        centre = mean([rows[i] for i in own])
        like = [round(cosine(rows[i], centre), 6) for i in own]
        total = sum(size[i] for i in own)
        value = centre if strict else [sum(size[i] * hidden[i][d] for i in own) / total for d in range(len(centre))]
        values[own[like.index(max(like))]] = value
    return dict(sorted(values.items()))
