"""One pass over a video file that keeps chosen frames and lets go of the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np

from .limits import Bounds
from .source import opened
from .upright import Orientation, orientation, set_upright, stretched

_SQUARE = Fraction(1)


@dataclass
class Decoded:
    """shown: stamps of every frame met. kept: which of them, counted from 0, are in `frames`.

    frames: (len(kept), H, W, 3) uint8. damaged, trouble: whether and why something was passed over. wanted: how many
    frames their size was made for.
    """

    frames: np.ndarray | None = None
    kept: list[int] = field(default_factory=list)
    shown: list[int | None] = field(default_factory=list)
    damaged: bool = False
    trouble: str = ""
    wanted: int = 0


class Album:
    """Takes the kept frames in any order: `count` of them, all as large as the first."""

    def __init__(
        self, name: str, count: int, bounds: Bounds, pixel: Fraction = _SQUARE, picture: Orientation | None = None
    ) -> None:
        self.name, self.count, self.bounds, self.pixel, self.picture = name, count, bounds, pixel, picture
        self.frames: np.ndarray | None = None
        self._full = (0, 0)
        self._resized: tuple[int, int] | None = None

    def put(self, slot: int, frame: Any) -> None:
        turned = orientation(frame, self.picture)
        if self.frames is None:
            shown = stretched(frame.width, frame.height, self.pixel)
            self.bounds.check_kept(self.name, self.count, *shown)
            width, height = self.bounds.fit(*shown)
            self._full = (width, height) if turned.transposed else (height, width)
            self._resized = self.bounds.resized(self.count, *self._full)
            # One array from the start: a list of frames stacked at the end would need the memory twice.
            self.frames = np.empty((self.count, *(self._resized or self._full), 3), dtype=np.uint8)
        height, width = self._full
        width, height = (height, width) if turned.transposed else (width, height)
        smaller = width * height < frame.width * frame.height
        scaled = frame.reformat(width, height, "rgb24", interpolation="AREA" if smaller else "BILINEAR")
        picture = set_upright(scaled.to_ndarray(), turned)
        if self._resized is not None and self.bounds.resize is not None:
            picture = self.bounds.resize.frame(picture, self._resized)
        self.frames[slot] = picture


def decode(
    name: str, chosen: Sequence[int], bounds: Bounds, *, thorough: bool, picture: Orientation | None = None
) -> Decoded:
    """Keep the frames of `name` at the places `chosen` (increasing, counted in the order frames are shown).

    The file is walked to its end, so that damage is noticed whichever frames are chosen.
    thorough: lose as little as possible around damage, else tell it by leaving frames out. picture: see `orientation`.
    """
    result = Decoded(wanted=len(chosen))
    with opened(name) as source:
        thorough = thorough or source.told_by_decoder
        if not thorough:
            source.be_strict()
        album = Album(name, len(chosen), bounds, source.pixel, picture)
        for frame in source.frames("SLICE" if thorough else "AUTO"):
            place = len(result.shown)
            result.shown.append(frame.pts)
            if len(result.kept) < len(chosen) and place == chosen[len(result.kept)]:
                album.put(len(result.kept), frame)
                result.kept.append(place)
        result.damaged, result.trouble = source.damaged, source.trouble
    if album.frames is not None:
        result.frames = album.frames[: len(result.kept)]
    return result
