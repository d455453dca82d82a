"""Temporal Ward merging in lists: a chain of runs per place, merged round by round where the variance grows least."""

from __future__ import annotations

import math
from dataclasses import dataclass

from tests.reference.vectors import Vector


@dataclass
class Run:
    """Tokens that became one. ends: no run behind it at this place."""

    tokens: list[int]
    total: Vector
    size: float
    ends: bool


def points(frames: list[int], places: list[int], values: list[Vector], rate: float) -> tuple[list[int], list[Vector]]:
    """Tokens lined up place by place; what tells them apart: direction, and time, `rate` average steps a frame."""
    order = sorted(range(len(frames)), key=lambda token: places[token])
    direction = [[part / max(math.hypot(*values[token]), 1e-12) for part in values[token]] for token in order]
    steps = [
        math.dist(direction[number], direction[number + 1]) ** 2
        for number in range(len(order) - 1)
        if places[order[number]] == places[order[number + 1]]
    ]
    step = max(1e-6, math.sqrt(sum(steps) / len(steps))) if steps else 1.0
    return order, [[*one, rate * step * frames[token]] for one, token in zip(direction, order, strict=True)]


def merged(
    frames: list[int], places: list[int], values: list[Vector], sizes: list[float], kept: int, weight: float
) -> dict[int, list[int]]:
    """The tokens each survivor stands for, itself first; `kept` survivors."""
    order, where = points(frames, places, values, weight * kept / len(frames))
    runs = [
        Run(
            [token],
            [sizes[token] * part for part in point],
            sizes[token],
            number + 1 == len(order) or places[order[number + 1]] != places[token],
        )
        for number, (token, point) in enumerate(zip(order, where, strict=True))
    ]
    apart = True
    while len(runs) > kept:
        costs = [_cost(runs, number, apart) for number in range(len(runs))]
        lowest = [number for number in range(len(runs)) if _is_lowest(costs, number)]
        if not lowest:
            apart = False
            continue
        chosen = sorted(lowest, key=lambda number: costs[number])[: max(1, (len(runs) - kept) // 4)]
        runs = _after(runs, set(chosen))
    return {run.tokens[0]: run.tokens for run in runs}


def _cost(runs: list[Run], number: int, apart: bool) -> float:
    """Variance that is added when a run takes in the one behind it."""
    if number + 1 == len(runs) or (apart and runs[number].ends):
        return math.inf
    one, other = runs[number], runs[number + 1]
    away = math.dist([part / one.size for part in one.total], [part / other.size for part in other.total])
    return one.size * other.size / (one.size + other.size) * away**2


def _is_lowest(costs: list[float], number: int) -> bool:
    """Whether a run costs less than its neighbours; an even one may cost as much as they do."""
    if costs[number] == math.inf:
        return False
    others = [costs[other] for other in (number - 1, number + 1) if 0 <= other < len(costs)]
    return all(costs[number] <= other if number % 2 == 0 else costs[number] < other for other in others)


def _after(runs: list[Run], chosen: set[int]) -> list[Run]:
    left = []
    for number, run in enumerate(runs):
        if number - 1 in chosen:
            continue
        if number in chosen:
            other = runs[number + 1]
            total = [a + b for a, b in zip(run.total, other.total, strict=True)]
            run = Run([*run.tokens, *other.tokens], total, run.size + other.size, other.ends)
        left.append(run)
    return left
