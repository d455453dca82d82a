"""Cut time into stretches of frames that belong together."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby


def contiguous_segments(labels: Sequence[int]) -> list[int]:
    """Segment number of each frame, ascending, from cluster labels that may come back later.

    Each cluster keeps its longest stretch (all that are tied), if that is longer than one frame. The frames between
    kept stretches join the longer neighbour, the left one on a tie.
    """
    stretches = [(label, len(list(group))) for label, group in groupby(labels)]
    longest: dict[int, int] = {}
    for label, length in stretches:
        longest[label] = max(length, longest.get(label, 0))
    kept = [label if 1 < length == longest[label] else None for label, length in stretches for _ in range(length)]
    return _numbered(_filled(kept))


def _filled(kept: list[int | None]) -> list[int]:
    filled: list[int] = []
    for start, (label, group) in _stretches(kept):
        if label is not None:
            filled += [label] * group
            continue
        left, right = _run(filled[::-1]), _run(kept[start + group :])
        neighbour = left if left[1] >= right[1] else right
        filled += [neighbour[0] or 0] * group
    return filled


def _stretches(kept: list[int | None]) -> list[tuple[int, tuple[int | None, int]]]:
    """(start, (label, length)) of every stretch of equal labels."""
    found, start = [], 0
    for label, group in groupby(kept):
        length = len(list(group))
        found.append((start, (label, length)))
        start += length
    return found


def _run(labels: Sequence[int | None]) -> tuple[int | None, int]:
    """(label, length) of the stretch that `labels` begins with."""
    for label, group in groupby(labels):
        return label, len(list(group))
    return None, 0


def _numbered(labels: list[int]) -> list[int]:
    return [number for number, (_, group) in enumerate(groupby(labels)) for _ in group]
