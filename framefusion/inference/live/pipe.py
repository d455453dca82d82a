"""A video that another program writes into a pipe."""

from __future__ import annotations

import os
import select
import stat
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from framefusion.core.errors import BrokenVideoError, EmptyVideoError, VideoError
from framefusion.inference.video import limits
from framefusion.inference.video.source import pyav, reading

from .decoding import frames_of, live_source
from .items import Raw
from .waits import Since, Waits

NAME = "the pipe"
_TICK = 0.25
_BUFFER = 2**16


class PipeReader:
    """What PyAV reads a pipe through: it ends when its writer has closed it, when it is given up, or when told to stop.

    received: bytes so far.
    """

    name = NAME

    def __init__(self, descriptor: int, waits: Waits) -> None:
        self._descriptor, self._waits, self._since = descriptor, waits, Since()
        self.received = 0

    def read(self, size: int) -> bytes:
        self._since.came()
        while not self._waits.stop.is_set() and self._since.seconds < self._waits.give_up:
            if select.select([self._descriptor], [], [], _TICK)[0]:
                data = os.read(self._descriptor, size)
                self.received += len(data)
                return data
        return b""


class FileReader:
    """A file that stands for standard input, which can be read in any order."""

    name = NAME

    def __init__(self, descriptor: int) -> None:
        self._file = os.fdopen(descriptor, "rb", closefd=False)
        self.received = os.fstat(descriptor).st_size
        self.read, self.seek, self.tell = self._file.read, self._file.seek, self._file.tell


def standard_input() -> int:
    """The descriptor of what is piped into this process. Raises VideoError where nothing is."""
    hint = "pipe a video into the command, as in `ffmpeg -i SOURCE -f matroska - | framefusion stream -`"
    try:
        descriptor = sys.stdin.fileno()
        at_keyboard = os.isatty(descriptor)
    except (AttributeError, OSError, ValueError):
        raise VideoError("no video comes through the pipe", "standard input is closed", hint) from None
    if at_keyboard:
        raise VideoError("no video comes through the pipe", "standard input is the keyboard", hint)
    return descriptor


def named_pipe(path: Path) -> int:
    """A descriptor of a named pipe, once somebody has opened its other end."""
    return os.open(path, os.O_RDONLY)


def frames_of_pipe(opened: Callable[[], int], waits: Waits, ready: Callable[[], None]) -> Iterator[Raw]:
    """Frames of the one video in a pipe. opened: its descriptor. ready: called when it is open. Raises VideoError."""
    descriptor = os.dup(opened())
    try:
        regular = stat.S_ISREG(os.fstat(descriptor).st_mode)
        yield from _frames(FileReader(descriptor) if regular else PipeReader(descriptor, waits), ready)
    finally:
        os.close(descriptor)


def _frames(reader: FileReader | PipeReader, ready: Callable[[], None]) -> Iterator[Raw]:
    options = {"protocol_whitelist": "pipe", "max_pixels": str(limits.MAX_FRAME_PIXELS)}
    try:
        with (
            reading(NAME),
            pyav().open(reader, "r", options=options, metadata_errors="replace", buffer_size=_BUFFER) as container,
        ):
            source = live_source(NAME, container)
            ready()
            yield from frames_of(source, live=True)
    except BrokenVideoError as error:
        if not reader.received:
            why = "its writer closed it at once, or wrote nothing"
            raise EmptyVideoError(
                "the pipe holds no video", why, "look at what the program in front of it says"
            ) from None
        hint = "write a format that can be read from its beginning: mpegts, matroska, or mp4 in fragments"
        raise BrokenVideoError("the pipe cannot be read as a video", error.why, hint) from None
