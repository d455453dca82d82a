"""One stream as it is now: its state, the frames that wait, and what it tells of itself."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from framefusion.core.errors import OptionError
from framefusion.inference.stream.state import State
from framefusion.inference.stream.status import StreamStatus
from framefusion.inference.stream.window import Collector, arrays, times

if TYPE_CHECKING:
    import numpy as np

    from framefusion.inference.stream.prompt import Frames

Reading = Callable[[State, "Frames"], State]


class Watched:
    """A stream whose frames wait in `waiting` until they are read.

    state: what was read. frames, seconds: fed so far, and the time of the last. The model is not known here.
    """

    def __init__(self, waiting: Collector) -> None:
        self.state = State()
        self.frames, self.seconds = 0, 0.0
        self.waiting = waiting
        self._last_window = 0.0
        self._present: State | None = None
        self._open = True

    def checked(self, frames: Any, seconds: Any) -> tuple[list[np.ndarray], list[float]]:
        """New frames and their times. Raises OptionError; nothing has changed then."""
        self.check_open()
        self._present = None
        pictures = arrays(frames)
        return pictures, times(seconds, len(pictures), self.seconds if self.frames else None)

    def windows(self, pictures: Sequence[np.ndarray], seconds: Sequence[float]) -> Iterator[Frames]:
        """The windows that new frames complete, one after the other."""
        for picture, second in zip(pictures, seconds, strict=True):
            if not self.frames:
                self.state = replace(self.state, begin=second)
            self.frames, self.seconds = self.frames + 1, second
            yield from self.waiting.add([picture], [second])

    def taken(self) -> Iterator[Frames]:
        """The frames that wait, window by window; they do so no longer."""
        self.check_open()
        self._present = None
        return self.waiting.taken()

    def present(self, after: Reading, alone: Reading) -> State:
        """The stream with the frames that wait; until others come, they are read once for all questions.

        alone: reads the recent ones. after: reads those before.
        """
        self.check_open()
        if self._present is None:
            earlier, recent = self.waiting.split()
            state = self.state if earlier is None else after(self.state, earlier)
            self._present = state if recent is None else alone(state, recent)
        return self._present

    def goes_on(self, state: State, waiting: Frames | None, frames: int, seconds: float) -> None:
        """Become what a tape holds; frames that waited for a longer window go on waiting."""
        self.state, self.frames, self.seconds = state, frames, seconds
        if waiting is not None:
            self.waiting.put(waiting)

    @contextmanager
    def reading(self, frames: Frames) -> Iterator[None]:
        """The block reads a window. Where it does not get to its end, the frames wait again."""
        started = time.perf_counter()
        try:
            yield
        except BaseException:
            self.waiting.put(frames)
            raise
        self._last_window = time.perf_counter() - started

    def check_open(self) -> None:
        if not self._open:
            raise OptionError("this stream is closed", hint="open another one with `framefusion.stream`")

    def close(self) -> None:
        self._open, self.state, self._present = False, State(), None

    @property
    def status(self) -> StreamStatus:
        memory = self.state.memory
        return StreamStatus(
            self.seconds,
            self.frames,
            self.state.windows,
            self.state.columns,
            memory.count,
            memory.bytes,
            self.state.columns * memory.bytes_per_column + memory.bytes_of_states,
            self._last_window,
        )
