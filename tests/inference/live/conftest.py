"""Small clips whose frames can be told apart, as bytes of several containers."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from fractions import Fraction

import av
import numpy as np
import pytest

WIDTH, HEIGHT = 64, 48
RATE = 10


def picture_of(number: int, width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    """(H, W, 3) uint8: one grey level, which is the number of the frame."""
    return np.full((height, width, 3), 20 + 5 * (number % 40), np.uint8)


def number_of(picture: np.ndarray) -> int:
    """Of a frame that was coded and decoded."""
    height, width = picture.shape[:2]
    middle = picture[height // 4 : -height // 4, width // 4 : -width // 4]
    return round((float(middle.mean()) - 20) / 5)


def clip_bytes(
    numbers: Sequence[int],
    form: str = "mpegts",
    codec: str = "mpeg4",
    stamps: Sequence[int] | None = None,
    size: tuple[int, int] = (WIDTH, HEIGHT),
) -> bytes:
    """Frames `numbers` at RATE per second; or at `stamps`, in tenths of a second."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", form) as container:
        stream = container.add_stream(codec, rate=RATE)
        stream.width, stream.height, stream.bit_rate = *size, 1_000_000
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        for place, number in enumerate(numbers):
            frame = av.VideoFrame.from_ndarray(picture_of(number, *size), format="rgb24")
            frame.pts, frame.time_base = place, Fraction(1, RATE)
            for packet in stream.encode(frame):
                if stamps is not None:  # the encoder takes none that fall back, nor does the muxer of decoding times
                    packet.pts = packet.dts + stamps[place] - place + len(stamps)
                container.mux(packet)
        for packet in stream.encode(None):
            container.mux(packet)
    return buffer.getvalue()


@pytest.fixture
def make_clip() -> Callable[..., bytes]:
    return clip_bytes
