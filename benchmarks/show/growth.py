"""How time grows with the number of frames."""

from __future__ import annotations

import math
from collections.abc import Iterable

from benchmarks.rows import Row
from benchmarks.variants import VARIANTS

FROM = 64
"""Frames from which the exponent is fitted: shorter prompts are ruled by what does not grow."""

Series = dict[tuple[str, str], list[tuple[int, float]]]


def series(rows: Iterable[Row]) -> Series:
    """Frames and median milliseconds of prefills, by variant and device, ascending."""
    found: Series = {}
    for row in rows:
        if row["kind"] == "growth" and row["part"] == "prefill" and row["median_ms"] and row["variant"] in VARIANTS:
            found.setdefault((row["variant"], row["device"]), []).append((row["frames"], row["median_ms"]))
    return {name: sorted(points) for name, points in found.items()}


def exponent(points: list[tuple[int, float]]) -> float | None:
    """p of the least-squares fit of time ~ frames^p in logarithms, over `FROM` frames and more."""
    late = [(math.log(frames), math.log(time)) for frames, time in points if frames >= FROM]
    if len(late) < 2:
        return None
    middle = sum(x for x, _ in late) / len(late), sum(y for _, y in late) / len(late)
    slope = sum((x - middle[0]) * (y - middle[1]) for x, y in late)
    return slope / sum((x - middle[0]) ** 2 for x, _ in late)


def exponents(rows: Iterable[Row]) -> str:
    """A table, or nothing where nothing grows."""
    lines = [
        f"| {variant} | {device} | {power:.2f} |"
        for (variant, device), points in series(rows).items()
        if (power := exponent(points)) is not None
    ]
    if not lines:
        return ""
    head = ["| variant | device | exponent |", "| --- | --- | ---: |"]
    return "\n".join([f"### Growth of the prefill from {FROM} frames on", "", *head, *lines])
