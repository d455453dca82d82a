"""Divide a clip's budget between tokens that stay as they are and tokens that others merge into (FastVID)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

Variant = Literal["exact", "llava_onevision", "llava_video"]


@dataclass(frozen=True)
class Division:
    """Tokens of each frame that attention chooses (`salient`) and that others merge into (`context`).

    missing: of each segment, context tokens that find no place in an anchor frame.
    """

    salient: tuple[int, ...]
    context: tuple[int, ...]
    missing: tuple[int, ...]


def divide(
    budget: Sequence[int], size: Sequence[int], segment: Sequence[int], share: float, every: int, variant: Variant
) -> Division:
    """Context tokens are `share` of the budget and lie in anchor frames: a segment's last, and every `every`th before.

    budget, size: tokens to keep and tokens there are, of each frame. segment: ascending number of each frame's segment.
    variant: "exact" gives out the whole budget. "llava_onevision" and "llava_video" round as the code published for
    these models: the first drops what does not divide among anchor frames; the second takes the share of the segment
    instead of each frame, and what does not divide goes to the first frames and to the last anchor frames.
    """
    salient, context, missing = [0] * len(budget), [0] * len(budget), []
    for _, group in groupby(range(len(budget)), key=lambda frame: segment[frame]):
        frames = list(group)
        total = sum(budget[frame] for frame in frames)
        if variant == "llava_video":
            kept = _spread(total - int(total * share), len(frames))
        else:
            kept = [budget[frame] - int(budget[frame] * share) for frame in frames]
        for frame, count in zip(frames, kept, strict=True):
            salient[frame] = min(count, size[frame])
        anchors = frames[::-1][::every][::-1]
        room, wanted = [size[frame] - salient[frame] for frame in anchors], total - sum(kept)
        for frame, count in zip(anchors, _seats(room, wanted, variant), strict=True):
            context[frame] = count
        missing.append(max(0, wanted - sum(room)) if variant == "exact" else 0)
    return Division(tuple(salient), tuple(context), tuple(missing))


def _seats(room: Sequence[int], wanted: int, variant: Variant) -> list[int]:
    if variant == "exact":
        return _dealt(room, min(wanted, sum(room)))
    even = _spread(wanted, len(room))[::-1]
    if variant == "llava_onevision":
        even = [wanted // len(room)] * len(room)
    return [min(pair) for pair in zip(even, room, strict=True)]


def _spread(count: int, groups: int) -> list[int]:
    """`count` in equal parts, the first ones one more where it does not divide."""
    return [count // groups + int(number < count % groups) for number in range(groups)]


def _dealt(room: Sequence[int], count: int) -> list[int]:
    """`count` in parts as equal as `room` allows, the first ones one more where it does not divide."""
    seats, open_ = [0] * len(room), list(range(len(room)))
    while count:
        open_ = [number for number in open_ if seats[number] < room[number]]
        for number, more in zip(open_, _spread(count, len(open_)), strict=True):
            more = min(more, room[number] - seats[number])
            seats[number], count = seats[number] + more, count - more
    return seats
