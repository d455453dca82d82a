"""Frames that came and were not read yet."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from framefusion.core.errors import OptionError
from framefusion.inference.stream.prompt import Frames

CHANNELS = 3


class Collector:
    """Collects frames into windows of `size` frames, while the newest `recent` ones go on waiting.

    step: frames of a time step, of which both are multiples. All frames that wait have one size of picture.
    """

    def __init__(self, size: int, recent: int = 0, step: int = 1) -> None:
        self.size, self.recent, self.step = size, recent, step
        self._pictures: list[np.ndarray] = []
        self._seconds: list[float] = []

    def __len__(self) -> int:
        return len(self._seconds)

    @property
    def waiting(self) -> Frames | None:
        """The frames that were not read yet."""
        return self._part(0, len(self))

    def split(self) -> tuple[Frames | None, Frames | None]:
        """The frames that wait: those before the newest `recent` ones, in whole time steps, and the rest."""
        before = max(0, len(self) - self.recent) // self.step * self.step if self.recent else len(self)
        return self._part(0, before), self._part(before, len(self))

    def add(self, pictures: Sequence[np.ndarray], seconds: Sequence[float]) -> Iterator[Frames]:
        """The windows that these frames complete, as they become full."""
        for picture, second in zip(pictures, seconds, strict=True):
            if self._pictures and self._pictures[0].shape != picture.shape:
                yield from self.taken()
            self._pictures.append(picture)
            self._seconds.append(second)
            while len(self) >= self.size + self.recent:
                yield self._take()

    def put(self, frames: Frames) -> None:
        """Frames wait again, in front of those that came behind them."""
        self._pictures[:0], self._seconds[:0] = list(frames.pictures), list(frames.seconds)

    def taken(self) -> Iterator[Frames]:
        """The frames that wait, window by window; they do so no longer."""
        while len(self):
            yield self._take()

    def _take(self) -> Frames:
        frames = self._part(0, self.size)
        assert frames is not None
        del self._pictures[: self.size], self._seconds[: self.size]
        return frames

    def _part(self, start: int, stop: int) -> Frames | None:
        pictures, seconds = self._pictures[start:stop], self._seconds[start:stop]
        return Frames(np.stack(pictures), tuple(seconds)) if pictures else None


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
