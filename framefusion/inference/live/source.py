"""From the name of a source to its frames: read in a thread of its own, which waits when nobody takes them."""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Annotated, Any

from framefusion.core.errors import EmptyVideoError, FrameFusionError
from framefusion.core.options import Count, Interval, Rate, checked
from framefusion.inference.video.limits import DEFAULT_MAX_PIXELS, Bounds
from framefusion.inference.video.source import checked_path

from .address import frames_of_address, is_address, without_secret
from .canvas import Canvas
from .clock import Clock, at_rate, in_order
from .file import frames_of_file
from .folder import frames_of_folder
from .items import Frame, Notice, Raw
from .pipe import frames_of_pipe, named_pipe, standard_input
from .waits import Since, Waits

PIPE = "-"
DEFAULT_PATIENCE, DEFAULT_GIVE_UP = 5.0, 60.0
AHEAD = 16
"""Frames that are read before somebody takes them."""
_TICK = 0.2

Seconds = Annotated[float, Interval("[0, inf)")]


def open_source(
    name: str | os.PathLike[str],
    *,
    fps: float = 1.0,
    patience: float = DEFAULT_PATIENCE,
    give_up: float = DEFAULT_GIVE_UP,
    max_side: int | None = None,
) -> LiveSource:
    """Frames of a file, a folder, a pipe, a network stream or a camera, as they come.

    Args:
        name: path of a video file or a named pipe; of a folder into which pictures or pieces of video are written, in
            the order of the numbers in their names; `-` for a video that is piped into this process; an address with
            `://`; `v4l2:…`, `avfoundation:…` or another device of FFmpeg, or the device file of a camera.
        fps: frames per second that are taken, the first at or after each multiple of 1/fps seconds. Pictures of a
            folder are that far apart.
        patience: seconds without a frame until the source is said to stall, and for which a first connection is tried.
        give_up: seconds without a frame until it has ended.
        max_side: shrink frames whose longer side has more pixels.

    Returns:
        A context manager and an iterator over `Frame` and `Notice`.

    Raises:
        OptionError: an argument is out of range.
        VideoError: there is no such source. What shows only when it is opened is raised by `wait`, or by iterating.

    Example:
        >>> with open_source("clip.mp4", fps=2) as source:
        ...     [item.seconds for item in source if isinstance(item, Frame)]
        [0.0, 0.5]
    """
    rate = checked("fps", Rate, fps, "1 reads a frame of every second")
    shrunk = checked("max_side", Count | None, max_side, "leave it out to keep frames as large as they are")
    patience, give_up = (
        checked(option, Seconds, value, "give seconds, as in 5")
        for option, value in {"patience": patience, "give_up": give_up}.items()
    )
    waits = Waits(patience, give_up)
    bounds = Bounds(DEFAULT_MAX_PIXELS, shrunk)
    text = os.fsdecode(name)
    if text == PIPE:
        descriptor = standard_input()
        piped = partial(frames_of_pipe, lambda: descriptor, waits)
        return LiveSource("the pipe", piped, rate, bounds, waits)
    if is_address(text):
        shown = without_secret(text)
        return LiveSource(shown, partial(frames_of_address, text, waits), rate, bounds, waits)
    path = Path(text[len("file://") :] if text.lower().startswith("file://") else text)
    if text and path.is_fifo():
        piped = partial(frames_of_pipe, partial(named_pipe, path), waits)
        return LiveSource(str(path), piped, rate, bounds, waits)
    if text and path.is_dir():
        return LiveSource(str(path), lambda ready: frames_of_folder(path, rate, bounds, waits), rate, bounds, waits)
    file = checked_path(path if text else text)
    return LiveSource(file, lambda ready: frames_of_file(file, bounds), rate, bounds, waits, stalls=False)


class LiveSource:
    """Frames and notices of one source, in order. Reading begins at once; `close` ends it.

    stalls: whether frames that keep one waiting are told; those of a file only take long to decode.
    """

    def __init__(
        self,
        name: str,
        frames: Callable[[Callable[[], None]], Iterator[Raw]],
        fps: float,
        bounds: Bounds,
        waits: Waits,
        stalls: bool = True,
    ) -> None:
        self.name, self.fps, self._waits, self._stalls = name, fps, waits, stalls
        self._queue: queue.Queue[Any] = queue.Queue(AHEAD)
        self._ready = threading.Event()
        self._frames, self._bounds = frames, bounds
        self._over = False
        self._thread = threading.Thread(target=self._read, name=f"reading {name}", daemon=True)
        self._thread.start()

    def wait(self) -> None:
        """Return when the source is open, a folder when there is a picture. Raises VideoError where that is in vain."""
        self._ready.wait()
        if self._over or self._queue.empty():
            return
        first = self._queue.queue[0]
        if first is None or isinstance(first, BaseException):
            raise first or self._without_frame()

    def stop(self) -> None:
        """Have the iteration end soon. For signal handlers and other threads."""
        self._waits.stop.set()

    def close(self) -> None:
        """Let go of the source. A read that is under way in FFmpeg ends by itself."""
        self.stop()
        while not self._queue.empty():
            self._queue.get_nowait()
        self._thread.join(_TICK)

    def __enter__(self) -> LiveSource:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __iter__(self) -> Iterator[Frame | Notice]:
        """Ends with the source. Raises VideoError where it cannot be opened or holds no frame."""
        since, stalled, seen = Since(), False, 0
        while not self._over and not self._waits.stop.is_set():
            try:
                item = self._queue.get(timeout=_TICK)
            except queue.Empty:
                if self._stalls and not stalled and since.seconds >= self._waits.patience:
                    stalled = True
                    yield Notice("stalled", f"nothing has come from {self.name} for {since.seconds:.0f} s")
                continue
            if isinstance(item, Frame):
                seen += 1
                if stalled:
                    stalled = False
                    yield Notice("resumed", f"{self.name} goes on after {since.seconds:.1f} s")
            yield from self._given(item, seen)
            since.came()

    def _given(self, item: Any, seen: int) -> Iterator[Frame | Notice]:
        if isinstance(item, (Frame, Notice)):
            yield item
            return
        self._over = True
        if isinstance(item, FrameFusionError) and seen:
            yield Notice("damaged", f"{item.what}: {item.why}" if item.why else item.what)
        elif isinstance(item, BaseException):
            raise item
        elif not seen:
            raise self._without_frame()
        yield Notice("ended", f"{self.name} has ended")

    def _without_frame(self) -> EmptyVideoError:
        hint = "check what is written there, or wait for longer with a larger give_up (--give-up)"
        return EmptyVideoError(f"{self.name} holds no frame", "it ended before one came", hint)

    def _read(self) -> None:
        """The thread: everything up to the finished frame."""
        try:
            timed = at_rate(in_order(Clock().put_right(self._frames(self._ready.set))), self.fps)
            for item in Canvas(self._bounds).draw(timed):
                if not self._put(item):
                    return
            self._put(None)
        except BaseException as error:  # handed over to whoever takes the frames
            self._put(error)
        finally:
            self._ready.set()

    def _put(self, item: Any) -> bool:
        """Whether somebody still wants it."""
        while not self._waits.stop.is_set():
            try:
                self._queue.put(item, timeout=_TICK)
            except queue.Full:
                continue
            if not isinstance(item, Notice):
                self._ready.set()
            return True
        return False
