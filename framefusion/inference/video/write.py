"""Small mp4 files from arrays, for tests and demos."""

from __future__ import annotations

import os
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import numpy as np

from framefusion.core.errors import OptionError, VideoError
from framefusion.core.options import Rate, checked

from .source import pyav, reason


def write_clip(path: str | os.PathLike[str], frames: np.ndarray, fps: float = 30.0) -> None:
    """Write an mp4 file (H.264, or MPEG-4 where PyAV lacks the encoder; yuv420p).

    Args:
        path: of the file, which is replaced where it exists.
        frames: (T, height, width, 3) uint8 RGB with T >= 1. Odd sizes grow by one repeated row or column.
        fps: frames per second.

    Raises:
        OptionError: `frames` is no such array, or `fps` is below one frame in 1001 seconds.
        VideoError: the file cannot be written.

    Example:
        >>> import numpy as np
        >>> write_clip("clip.mp4", np.zeros((8, 48, 64, 3), np.uint8), fps=8)
        >>> load_clip("clip.mp4").duration
        1.0
    """
    pictures = np.asarray(frames)
    if pictures.dtype != np.uint8 or pictures.ndim != 4 or pictures.shape[-1] != 3 or 0 in pictures.shape:
        shape = f"{pictures.dtype} {pictures.shape}"
        raise OptionError(f"frames of {shape} cannot be written", "frames is a non-empty (T, H, W, 3) uint8 array")
    rate = Fraction(checked("fps", Rate, fps)).limit_denominator(1001)
    if not rate:
        raise OptionError(f"fps={fps!r} is not valid", "the slowest video has one frame in 1001 seconds")
    name = os.fsdecode(path)
    try:
        _write(name, pictures, rate)
    except (pyav().error.FFmpegError, OSError, ValueError) as error:
        hint = "check that the folder exists and can be written"
        raise VideoError(f"{name} cannot be written", reason(error), hint) from None


def _write(name: str, pictures: np.ndarray, rate: Fraction) -> None:
    av = pyav()
    _, height, width, _ = pictures.shape
    codec = "libx264" if "libx264" in av.codecs_available else "mpeg4"
    with av.open(name, "w", format="mp4") as container:
        stream = container.add_stream(codec, rate=rate)
        stream.width, stream.height, stream.pix_fmt = width + width % 2, height + height % 2, "yuv420p"
        if codec == "libx264":
            stream.codec_context.options = {"crf": "18"}
        for frame in _frames(pictures, rate):
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def _frames(pictures: np.ndarray, rate: Fraction) -> Iterator[Any]:
    _, height, width, _ = pictures.shape
    for number, picture in enumerate(pictures):
        even = np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        frame = pyav().VideoFrame.from_ndarray(np.ascontiguousarray(even), format="rgb24")
        frame.pts, frame.time_base = number, 1 / rate
        yield frame
