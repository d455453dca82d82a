"""Spatial average pooling, token by token."""

from __future__ import annotations

Cell = tuple[int, int, int]


def blocks(cells: list[Cell], side: int) -> dict[Cell, list[int]]:
    """Tokens of each side x side block, blocks in order of their first token. cells: (frame, row, column)."""
    found: dict[Cell, list[int]] = {}
    for token, (frame, row, column) in enumerate(cells):
        found.setdefault((frame, row // side, column // side), []).append(token)
    return found


def factor(cells: list[Cell], keep: float | int) -> int:
    """The side whose number of blocks comes nearest to the budget; the smaller of two."""
    wanted = keep if isinstance(keep, int) else keep * len(cells)
    best, best_distance = 1, float("inf")
    for side in range(1, 1 + max(max(row, column) + 1 for _, row, column in cells)):
        distance = abs(len(blocks(cells, side)) - wanted)
        if distance < best_distance:
            best, best_distance = side, distance
    return best


def pooled(
    cells: list[Cell], keep: float | int, values: list[list[float]], size: list[float]
) -> tuple[list[int], list[list[float]]]:
    """Tokens that stay and their new values: means over the originals their block carries."""
    stay, means = [], []
    for members in blocks(cells, factor(cells, keep)).values():
        weight = sum(size[token] for token in members)
        stay.append(members[0])
        means.append([sum(values[token][d] * size[token] for token in members) / weight for d in range(len(values[0]))])
    order = sorted(range(len(stay)), key=lambda slot: stay[slot])
    return [stay[slot] for slot in order], [means[slot] for slot in order]
