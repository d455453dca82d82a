"""One pass over a video file that keeps chosen frames and lets go of the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .limits import Bounds
from .source import opened


@dataclass
class Decoded:
    """shown: pts of every frame met. kept: which of them, counted from 0, are in `frames`, (len(kept), H, W, 3) uint8.

    ended: whether the file was walked to its end. damaged, trouble: whether and why something was passed over.
    """

    frames: np.ndarray | None = None
    kept: list[int] = field(default_factory=list)
    shown: list[int | None] = field(default_factory=list)
    ended: bool = True
    damaged: bool = False
    trouble: str = ""


def decode(name: str, chosen: Sequence[int], bounds: Bounds, *, thorough: bool) -> Decoded:
    """Keep the frames of `name` at the places `chosen` (increasing, counted in the order frames are shown).

    thorough: walk to the end of the file even when all are found, and lose as little as possible around damage.
    """
    result = Decoded()
    with opened(name) as source:
        for frame in source.frames("SLICE" if thorough else "AUTO"):
            place = len(result.shown)
            result.shown.append(frame.pts)
            if len(result.kept) < len(chosen) and place == chosen[len(result.kept)]:
                _keep(result, frame, name, len(chosen), bounds)
            if len(result.kept) == len(chosen) and not thorough:
                result.ended = False
                break
        result.damaged, result.trouble = source.damaged, source.trouble
    if result.frames is not None:
        result.frames = result.frames[: len(result.kept)]
    return result


def _keep(result: Decoded, frame: Any, name: str, count: int, bounds: Bounds) -> None:
    if result.frames is None:
        bounds.check_kept(name, count, frame.width, frame.height)
        width, height = bounds.fit(frame.width, frame.height)
        upright = (width, height) if _quarter_turns(frame) % 2 else (height, width)
        # One array from the start: a list of frames stacked at the end would need the memory twice.
        result.frames = np.empty((count, *upright, 3), dtype=np.uint8)
    result.frames[len(result.kept)] = _picture(frame, *result.frames.shape[1:3])
    result.kept.append(len(result.shown) - 1)


def _picture(frame: Any, height: int, width: int) -> np.ndarray:
    """The frame upright, as (height, width, 3) RGB."""
    turns = _quarter_turns(frame)
    if turns % 2:
        height, width = width, height
    smaller = width * height < frame.width * frame.height
    scaled = frame.reformat(width, height, "rgb24", interpolation="AREA" if smaller else "BILINEAR")
    return np.rot90(scaled.to_ndarray(), turns)


def _quarter_turns(frame: Any) -> int:
    """Counter-clockwise quarter turns that set the frame upright; other angles are left alone."""
    turns = round(frame.rotation / 90)
    return turns % 4 if abs(frame.rotation - 90 * turns) <= 1 else 0
