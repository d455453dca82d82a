"""A folder of pictures that are the frames of one clip, in the order of their names."""

from __future__ import annotations

import os
import re

import numpy as np

from framefusion.core.errors import PictureError
from framefusion.core.options import Rate, checked
from framefusion.inference.video import Clip
from framefusion.inference.video.limits import MAX_PACKETS, Bounds
from framefusion.inference.video.sampling import check_amount, sample_times
from framefusion.inference.video.source import checked_path, reading

from .still import ENDINGS, read_still, size_of

_NUMBER = re.compile(r"(\d+)")


def frames_in(folder: str) -> list[str]:
    """Paths of the pictures in `folder`, `frame2.png` in front of `frame10.png`; hidden files and folders left out."""
    names = [name for name in os.listdir(folder) if name[0] != "." and name.lower().endswith(ENDINGS)]
    names = [name for name in names if not os.path.isdir(os.path.join(folder, name))]
    return [os.path.join(folder, name) for name in sorted(names, key=_in_reading_order)]


def read_folder(folder: str, frames: int | None, fps: float | None, rate: float) -> Clip:
    """As `load_clip`, of the pictures in `folder`. rate: of them per second.

    Raises:
        PictureError: there is none, one cannot be read, or their sizes differ.
        VideoError: one that is read is no regular file, such as a link to nothing or in a circle, a pipe, a device.
        VideoTooLargeError: the frames that are kept have too many pixels; told before one is decoded.
    """
    frames, fps = check_amount(frames, fps)
    with reading(folder):
        return _clip(folder, frames, fps, checked("frame_rate", Rate, rate))


def _clip(folder: str, frames: int | None, fps: float | None, rate: float) -> Clip:
    paths = frames_in(folder)
    if not paths:
        hint = f"name what is in it, one by one or as a pattern; of pictures {', '.join(ENDINGS)} are known"
        raise PictureError(f"{folder!r} cannot be read", "it is a folder without pictures", hint)
    if len(paths) > MAX_PACKETS:
        raise PictureError(f"{folder!r} cannot be read", f"it holds more than {MAX_PACKETS} pictures")
    times = np.arange(len(paths)) / rate
    chosen = sample_times(times, frames, fps)
    for number in chosen:
        checked_path(paths[number])
    first = size_of(paths[chosen[0]])
    Bounds().check_kept(folder, len(chosen), *first)
    kept: np.ndarray | None = None
    for slot, number in enumerate(chosen):
        picture = read_still(paths[number]).frames[0]
        if kept is None:
            kept = np.empty((len(chosen), *picture.shape), np.uint8)
        if picture.shape != kept.shape[1:]:
            raise _unequal(folder, paths[number], picture, kept)
        kept[slot] = picture
    assert kept is not None
    return Clip(
        frames=kept,
        timestamps=tuple(times[chosen].tolist()),
        fps=rate,
        duration=len(paths) / rate,
        total_frames=len(paths),
        source=folder,
        indices=tuple(chosen),
    )


def _unequal(folder: str, path: str, picture: np.ndarray, kept: np.ndarray) -> PictureError:
    (height, width), (rows, columns) = picture.shape[:2], kept.shape[1:3]
    why = f"{os.path.basename(path)} has {width} x {height} pixels, the first one {columns} x {rows}"
    hint = f"if they are no frames of one clip, name the pictures: {os.path.join(folder, '*')}"
    return PictureError(f"the pictures in {folder!r} are no frames of one clip", why, hint)


def _in_reading_order(name: str) -> tuple[list[tuple[int, int, str]], str]:
    parts = _NUMBER.split(os.path.splitext(name)[0])
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts if part], name
