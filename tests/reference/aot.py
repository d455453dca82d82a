"""AOT step by step, in float64, for one clip, from its specification; the count is exact as the method has it."""

from __future__ import annotations

import math
from itertools import groupby

from torch import Tensor

from tests.reference.divprune import cosine
from tests.reference.fastvid import nearest
from tests.reference.holov import seats

Cell = tuple[int, int]


def plan(cost: list[list[float]]) -> list[list[float]]:
    """What Sinkhorn's steps move from each source (row) to each target (column), one mass in all."""
    sources, targets = len(cost), len(cost[0])
    kernel = [[math.exp(-one / 0.1) for one in row] for row in cost]
    column = [1.0] * targets
    for _ in range(100):
        row = [1.0 / sources / sum(k * c for k, c in zip(line, column, strict=True)) for line in kernel]
        column = [1.0 / targets / sum(kernel[s][t] * row[s] for s in range(sources)) for t in range(targets)]
        given = [row[s] * sum(kernel[s][t] * column[t] for t in range(targets)) for s in range(sources)]
        if all(abs(one * sources - 1.0) < 1e-4 for one in given):
            break
    return [[row[s] * kernel[s][t] * column[t] for t in range(targets)] for s in range(sources)]


def window(cell: Cell, sides: Cell) -> Cell:
    return cell[0] * 3 // sides[0], cell[1] * 3 // sides[1]


def chosen(tokens: list[int], score: list[float], windows: list[Cell], count: int, local: float) -> list[int]:
    """Anchors of a frame in prompt order."""
    best = sorted(tokens, key=lambda i: (-score[i], i))
    present = {windows[i] for i in tokens}
    each = math.floor(round(count * local, 6)) // len(present)
    picks = [i for one in present for i in [j for j in best if windows[j] == one][:each]]
    return sorted(picks + [i for i in best if i not in picks][: count - len(picks)])


def taken_in(rows: Tensor, anchors: list[int], rest: list[int], cells: list[Cell], sides: Cell) -> list[Tensor]:
    """What the anchors of a frame become."""
    if not rest or not anchors:
        return [rows[a] for a in anchors]
    ends = [max(1, side - 1) for side in sides]

    def away(i: int, a: int) -> float:
        return math.hypot(*((cells[i][axis] - cells[a][axis]) / ends[axis] for axis in (0, 1)))

    moved = plan([[1.0 - cosine(rows[i], rows[a]) + 0.5 * away(i, a) for a in anchors] for i in rest])
    found = []
    for number, a in enumerate(anchors):
        near = [i for i in rest if nearest(i, anchors, rows) == a]
        mean = sum((rows[i] for i in near), rows[a]) / (1 + len(near))
        mass = [line[number] for line in moved]
        brought = sum((m * rows[i] for m, i in zip(mass, rest, strict=True)), rows[a]) / (1 + sum(mass))
        found.append(0.1 * mean + 0.9 * brought)
    return found


def aot(
    hidden: Tensor,
    frame: list[int],
    cells: list[Cell],
    attention: Tensor,
    count: int,
    every: int = 4,
    fresh: float = 0.4,
    local: float = 0.5,
) -> dict[int, Tensor]:
    """Survivors of one clip and their values. cells: row and column of each token."""
    rows, score = hidden.double(), attention.double().tolist()
    sides = (max(row for row, _ in cells) + 1, max(column for _, column in cells) + 1)
    windows = [window(cell, sides) for cell in cells]
    members = [[i for i in range(len(rows)) if frame[i] == f] for f in range(max(frame) + 1)]
    weights = [1.0 if f % every == 0 else fresh for f in range(len(members))]
    kept = seats([one / sum(weights) for one in weights], [len(own) for own in members], count)
    values: dict[int, Tensor] = {}
    for _, group in groupby(range(len(members)), key=lambda f: f // every):
        scene = list(group)
        bases: list[int] = []
        targets: list[Tensor] = []
        for f in scene:
            most = min(len(members[f]), max(kept[f], kept[scene[0]]))
            anchors = chosen(members[f], score, windows, most, local)
            made = taken_in(rows, anchors, [i for i in members[f] if i not in anchors], cells, sides)
            if f == scene[0]:
                bases, targets = anchors, made
            elif bases and anchors:
                stay, targets = along(made, targets, f - scene[0], kept[f])
                values.update({anchors[number]: made[number] for number in stay})
        values.update(dict(zip(bases, targets, strict=True)))
    return dict(sorted(values.items()))


def along(made: list[Tensor], targets: list[Tensor], after: int, count: int) -> tuple[list[int], list[Tensor]]:
    """Which of a frame's tokens stay, and what the first frame's become by taking in the others."""
    apart = [[1.0 - cosine(x, y) for y in targets] for x in made]
    least, time = min(map(min, apart)), 1.0 - math.exp(-(after**2) / (2 * 1.5**2))
    moved = plan([[(one - least) * time for one in row] for row in apart])
    part = [[one / sum(row) for one in row] for row in moved]
    stay = sorted(range(len(made)), key=lambda s: (round(max(part[s]), 5), s))[:count]
    go = [s for s in range(len(made)) if s not in stay]
    fused = []
    for t, target in enumerate(targets):
        mass = [part[s][t] for s in go]
        fused.append(sum((m * made[s] for m, s in zip(mass, go, strict=True)), target) / (1 + sum(mass)))
    return sorted(stay), fused
