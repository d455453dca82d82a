"""IPCV for one picture, written plainly from the paper: lists and loops."""

from __future__ import annotations

import math


def chosen(entered: list[list[float]], left: list[list[float]], count: int, class_token: bool) -> list[int]:
    """The patches that a block changed most, and the class token: ascending places."""
    first = int(class_token)
    change = {place: math.dist(entered[place], left[place]) for place in range(first, len(left))}
    order = sorted(change, key=lambda place: -change[place])
    return sorted([*range(first), *order[:count]])


def neighbours_of(states: list[list[float]], kept: list[int], count: int) -> dict[int, list[int]]:
    """For every patch that left, the kept ones that were nearest to it."""
    gone = [place for place in range(len(states)) if place not in kept]
    return {place: sorted(kept, key=lambda other: math.dist(states[place], states[other]))[:count] for place in gone}


def restored(
    saved: list[list[float]], now: dict[int, list[float]], neighbours: dict[int, list[int]]
) -> list[list[float]]:
    """States of all patches: those that left changed as their neighbours did on average. now: of the kept ones."""
    whole = []
    for place, state in enumerate(saved):
        if place in now:
            whole.append(now[place])
            continue
        near = neighbours[place]
        change = [sum(now[other][c] - saved[other][c] for other in near) / len(near) for c in range(len(state))]
        whole.append([value + more for value, more in zip(state, change, strict=True)])
    return whole
