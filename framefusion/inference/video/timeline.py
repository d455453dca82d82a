"""When frames are shown, from the stamps a file gives them: what does not increase is repaired, the rest is kept."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

_NONE = np.iinfo(np.int64).min


def increasing(stamps: Sequence[int | None], step: float) -> np.ndarray:
    """(T,) float64 stamps that increase strictly and begin at 0, in the order frames are shown.

    stamps: as the file gives them, None where it gives none. step: usual distance of two neighbours, in their unit.
    A stamp that is missing or falls back comes as long after the one before as that after its own, or less where this
    is more than usual or the next one leaves less room. A clock that starts anew, as in joined recordings, goes on from
    where it was.
    """
    if not any(stamp is not None for stamp in stamps):
        return np.arange(len(stamps)) * step
    given = np.array([_NONE if stamp is None else stamp for stamp in stamps], dtype=np.int64)
    if (given != _NONE).all() and (np.diff(given) > 0).all():
        return (given - given[0]).astype(np.float64)
    known = np.flatnonzero(given != _NONE)
    kept, values = _kept((given[known] - given[known].min()).tolist(), step)
    times = _filled(known[kept], np.array(values, dtype=np.float64), len(given), step)
    return times - times[0]


def _kept(stamps: list[int], step: float) -> tuple[list[int], list[float]]:
    """Places of the stamps that increase, and the stamps themselves on one clock."""
    kept: list[int] = []
    values: list[float] = []
    offset, place = 0.0, 0
    while place < len(stamps):
        value = stamps[place] + offset
        if not kept or value > values[-1]:
            kept.append(place)
            values.append(value)
            place += 1
            continue
        end = _end_of_fall(stamps, place, values[-1] - offset)
        if _leapt(values, value, end - place):
            kept.pop()
            values.pop()
        elif _starts_anew(stamps, place, end, values[-1] - offset):
            offset += values[-1] + step - value
        else:
            place = end
    return kept, values


def _end_of_fall(stamps: list[int], start: int, top: float) -> int:
    """The end of the run from `start` in which stamps increase without passing `top`."""
    end = start + 1
    while end < len(stamps) and stamps[end - 1] < stamps[end] <= top:
        end += 1
    return end


def _leapt(values: list[float], value: float, length: int) -> bool:
    """Whether the last stamp kept is the wrong one: it leapt ahead, and those after it go on from the one before it."""
    return length > 1 and len(values) > 1 and value > values[-2]


def _starts_anew(stamps: list[int], start: int, end: int, top: float) -> bool:
    """Whether the clock was set back: the stamps go on from where they fell to, not from where they were."""
    fall = top - stamps[start]
    if end == len(stamps) or stamps[end] <= stamps[end - 1]:
        return end - start > 1 and fall > stamps[end - 1] - stamps[end - 2]
    return stamps[end] - stamps[end - 1] < fall


def _filled(places: np.ndarray, values: np.ndarray, total: int, step: float) -> np.ndarray:
    """(total,) values: those at `places` as given, the others after them with the usual distance or less."""
    steps = np.diff(values) / np.diff(places)
    if len(places) > 1:
        step = float(np.median(steps))
    usual = np.minimum(np.concatenate(([step], steps)), step)
    last = np.maximum(np.searchsorted(places, np.arange(total), "right") - 1, 0)
    return values[last] + np.minimum(np.append(steps, step), usual)[last] * (np.arange(total) - places[last])
