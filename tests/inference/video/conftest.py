"""Small video files whose frames tell their own number by their grey level."""

from __future__ import annotations

from fractions import Fraction
from types import SimpleNamespace

import numpy as np
import pytest

DARKEST, STEP = 20, 7


def grey(count: int, height: int = 48, width: int = 64) -> np.ndarray:
    """(count, height, width, 3) uint8: frame i is grey of level 20 + 7 i, for up to 30 frames."""
    levels = DARKEST + STEP * np.arange(count, dtype=np.uint8)
    return np.broadcast_to(levels[:, None, None, None], (count, height, width, 3)).copy()


def numbers(frames: np.ndarray) -> list[int]:
    """The number of each frame made by `grey`, read from its pixels."""
    return np.rint((frames.mean(axis=(1, 2, 3)) - DARKEST) / STEP).astype(int).tolist()


def encode(path, pictures, codec="libx264", rate=30, pts=None, prepare=None, options=None, **container):
    """Encode with any codec and container; `prepare(stream)` runs before the first frame."""
    av = pytest.importorskip("av")
    if codec not in av.codecs_available:
        pytest.skip(f"this PyAV has no {codec}")
    with av.open(str(path), "w", **container) as output:
        stream = output.add_stream(codec, rate=rate)
        stream.height, stream.width = pictures.shape[1:3]
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        stream.codec_context.options = options or {}
        if prepare is not None:
            prepare(stream)
        for number, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts = number if pts is None else pts[number]
            frame.time_base = Fraction(1, rate)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path


@pytest.fixture
def make():
    """`grey`, `numbers` and `encode` for tests."""
    return SimpleNamespace(grey=grey, numbers=numbers, encode=encode)
