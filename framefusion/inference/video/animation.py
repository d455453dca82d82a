"""Animated WebP, which FFmpeg cannot decode; Pillow can."""

from __future__ import annotations

import io
import os

import numpy as np

from . import limits
from .clip import Clip
from .decode import Album
from .limits import Bounds
from .sampling import sample_times
from .source import pyav

_USUAL_MS = 100
"""What browsers take for a frame that names no duration."""


def is_animation(name: str) -> bool:
    """Whether the file is a WebP picture whose header announces more than one frame."""
    with open(name, "rb") as file:
        head = file.read(21)
    return head[:4] == b"RIFF" and head[8:16] == b"WEBPVP8X" and bool(head[20] & 0x02)


def _coded(name: str) -> io.BytesIO:
    """The animation alone: Pillow takes all of a file into memory, and there may be more behind it."""
    with open(name, "rb") as file:
        size = 8 + int.from_bytes(file.read(8)[4:], "little")
        limits.check_animation(name, min(size, os.fstat(file.fileno()).st_size))
        file.seek(0)
        return io.BytesIO(file.read(size))


def read_animation(name: str, frames: int | None, fps: float | None, bounds: Bounds) -> Clip:
    """As `load_clip`."""
    from PIL import Image, ImageOps

    with Image.open(_coded(name)) as picture:
        limits.check_frame(name, *picture.size)
        count = getattr(picture, "n_frames", 1)
        limits.check_work(name, 2 * count * picture.width * picture.height)
        ends: list[int] = []
        for number in range(count):
            picture.seek(number)
            picture.load()
            ends.append((ends[-1] if ends else 0) + (round(picture.info.get("duration", 0)) or _USUAL_MS))
        times = np.array([0, *ends[:-1]]) / 1000
        chosen = sample_times(times, frames, fps)
        bounds.check_kept(name, len(chosen), *picture.size)
        album = Album(name, len(chosen), bounds)
        for slot, number in enumerate(chosen):
            picture.seek(number)
            upright = np.asarray(ImageOps.exif_transpose(picture).convert("RGB"))
            album.put(slot, pyav().VideoFrame.from_ndarray(upright, format="rgb24"))
    tail = ends[-1] / 1000 - float(times[-1])
    assert album.frames is not None
    return Clip(
        frames=album.frames,
        timestamps=tuple(times[chosen].tolist()),
        fps=(count - 1) / float(times[-1]) if count > 1 else 1 / tail,
        duration=float(times[-1]) + tail,
        total_frames=count,
        source=name,
        indices=tuple(chosen),
    )
