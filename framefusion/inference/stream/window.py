"""Frames that came and were not read yet."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from framefusion.core.errors import OptionError
from framefusion.inference.stream.prompt import Frames

CHANNELS = 3


class Collector:
    """Collects frames into windows of `size` frames. All frames of a window have one size of picture."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._pictures: list[np.ndarray] = []
        self._seconds: list[float] = []

    def __len__(self) -> int:
        return len(self._seconds)

    @property
    def waiting(self) -> Frames | None:
        """The frames that fill no window yet."""
        return Frames(np.stack(self._pictures), tuple(self._seconds)) if self._pictures else None

    def add(self, pictures: Sequence[np.ndarray], seconds: Sequence[float]) -> Iterator[Frames]:
        """The windows that these frames complete, as they become full."""
        for picture, second in zip(pictures, seconds, strict=True):
            if self._pictures and self._pictures[0].shape != picture.shape:
                yield self.take()
            self._pictures.append(picture)
            self._seconds.append(second)
            if len(self) >= self.size:
                yield self.take()

    def put(self, frames: Frames) -> None:
        """Frames wait again."""
        self._pictures, self._seconds = list(frames.pictures), list(frames.seconds)

    def take(self) -> Frames:
        """The frames that wait, which do so no longer."""
        frames = self.waiting
        assert frames is not None
        self._pictures, self._seconds = [], []
        return frames


def arrays(frames: Any) -> list[np.ndarray]:
    """(H, W, 3) uint8 pictures of a list of PIL images or an array (T, H, W, 3). Raises OptionError."""
    pictures = [np.asarray(frame.convert("RGB") if hasattr(frame, "convert") else frame) for frame in frames]
    for picture in pictures:
        if picture.ndim != CHANNELS or picture.shape[-1] != CHANNELS or picture.dtype != np.uint8:
            raise OptionError(
                f"a frame of shape {picture.shape} and type {picture.dtype} cannot be fed",
                "frames are pictures of three colours, one byte each",
                "feed PIL images, or a uint8 array of shape (T, height, width, 3)",
            )
    return pictures


def times(seconds: Any, count: int, last: float | None) -> list[float]:
    """Times of `count` frames as numbers. last: of the frame before them. Raises OptionError where they go back."""
    try:
        given = [float(second) for second in seconds]
    except (TypeError, ValueError) as error:
        raise OptionError(f"seconds must be numbers, got {seconds!r:.80}", hint="one per frame") from error
    if len(given) != count:
        raise OptionError(f"{count} frames came with {len(given)} times", hint="give one time in seconds per frame")
    before = last
    for second in given:
        if not np.isfinite(second) or second < 0 or (before is not None and second < before):
            raise OptionError(
                f"a frame of second {second:g} cannot be fed" + ("" if before is None else f" behind {before:g}"),
                "times count from the beginning of the stream and do not go back",
                "sort the frames, or leave out those that come too late",
            )
        before = second
    return given
