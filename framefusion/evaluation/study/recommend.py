"""What to turn on first, second and third, from the rows alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from framefusion.evaluation.study.rows import Row

# Accuracy that may be lost against the dense model, as the lower end of the paired 95 % interval.
MARGIN = 0.05
PARTS = ("tokens", "weights", "activations", "kv", "attention")


@dataclass(frozen=True)
class Step:
    """One thing more that is turned on. part: which; saved: bytes of weights and cache of this step alone.

    before, after: the rows it leads from and to.
    """

    part: str
    saved: float
    before: Row
    after: Row


def steps(rows: Sequence[Row], prompts: int = 1, margin: float = MARGIN) -> list[Step]:
    """From the first row on, always the one change that saves most memory and whose loss stays within `margin`.

    prompts: how many caches lie beside the weights at once. A step changes one part only: the method and its budget, or
    one width. It is allowed where the interval of the difference to the first row ends above -margin.
    """
    now, found = rows[0], []
    while options := [option for option in _options(now, rows, prompts) if _holds(option.after, margin)]:
        best = max(options, key=lambda option: (option.saved, option.after.accuracy.value))
        found.append(best)
        now = best.after
    return found


def refused(rows: Sequence[Row], found: Sequence[Step], prompts: int = 1, margin: float = MARGIN) -> list[Step]:
    """What would save more where `steps` ended, but loses too much; the largest saving of each part."""
    now = found[-1].after if found else rows[0]
    options = sorted(_options(now, rows, prompts), key=lambda option: -option.saved)
    first: dict[str, Step] = {}
    for option in options:
        if not _holds(option.after, margin):
            first.setdefault(option.part, option)
    return list(first.values())


def memory(row: Row, prompts: int) -> float:
    return row.weight_bytes + prompts * row.kv_bytes


def _options(now: Row, rows: Sequence[Row], prompts: int) -> Iterator[Step]:
    for row in rows:
        parts = [part for part in PARTS if _part(row, part) != _part(now, part)]
        saved = memory(now, prompts) - memory(row, prompts)
        if len(parts) == 1 and saved > 0:
            yield Step(parts[0], saved, now, row)


def _part(row: Row, part: str) -> object:
    return (row.method, row.budget) if part == "tokens" else getattr(row, part)


def _holds(row: Row, margin: float) -> bool:
    return row.against.difference.low >= -margin
