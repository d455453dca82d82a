"""A folder into which pictures or pieces of video are written."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

from framefusion.core.errors import VideoError
from framefusion.inference.video import load_clip
from framefusion.inference.video.limits import Bounds

from .file import frames_of_file
from .items import Joint, Notice, Raw, Shown
from .waits import Since, Waits

PICTURES = frozenset([".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"])
MPEG = (".3gp", ".h264", ".hevc", ".m2ts", ".m4v", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".ts")
PIECES = frozenset([*MPEG, ".avi", ".flv", ".mjpeg", ".mjpg", ".mkv", ".ogv", ".webm", ".wmv"])
_TICK = 0.1
_SETTLED = 0.3
"""Seconds for which a picture has not changed when it is read."""
_NUMBER = re.compile(r"(\d+)")


def in_number_order(name: str) -> list[tuple[int, str]]:
    """Sorts 9.png in front of 10.png."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in _NUMBER.split(name)]


class Folder:
    """Pictures and pieces of a folder, each once, when nobody writes to it any more.

    A piece is whole when a newer file stands beside it, or when it has not changed for as long as `waits.patience`.
    Names are remembered: some hundred bytes for each file.
    """

    def __init__(self, path: Path, waits: Waits) -> None:
        self.path, self._waits = path, waits
        self._done: set[str] = set()
        self._changed: dict[str, tuple[tuple[int, int], float]] = {}

    def files(self) -> Iterator[Path]:
        """Ends when nothing has changed for as long as `waits.give_up`, with what is there by then."""
        since = Since()
        while not self._waits.stop.is_set():
            over = since.seconds >= self._waits.give_up
            names = self._new(all_of_them=over)
            for name in names:
                self._done.add(name)
                self._changed.pop(name, None)
                yield self.path / name
            if names or any(time.monotonic() - at < _SETTLED for _, at in self._changed.values()):
                since.came()
            elif over:
                return
            self._waits.sleep(_TICK)

    def _new(self, all_of_them: bool) -> list[str]:
        """Names of files that are whole, by their numbers."""
        now, times = time.monotonic(), {}
        for entry in self._entries():
            try:
                status = entry.stat()
            except OSError:  # gone meanwhile
                continue
            if status.st_size:
                state = status.st_size, status.st_mtime_ns
                if self._changed.get(entry.name, (None,))[0] != state:
                    self._changed[entry.name] = state, now
                times[entry.name] = status.st_mtime_ns
        newest = max(times.values(), default=0)
        found = [name for name in times if all_of_them or self._is_whole(name, now, times[name] < newest)]
        return sorted(found, key=in_number_order)

    def _is_whole(self, name: str, now: float, older: bool) -> bool:
        quiet = now - self._changed[name][1]
        is_picture = Path(name).suffix.lower() in PICTURES
        return (older and quiet > 0) or quiet >= (_SETTLED if is_picture else max(_SETTLED, self._waits.patience))

    def _entries(self) -> Iterator[os.DirEntry[str]]:
        try:
            with os.scandir(self.path) as entries:
                for entry in entries:
                    known = Path(entry.name).suffix.lower() in PICTURES | PIECES
                    if known and not entry.name.startswith(".") and entry.name not in self._done and entry.is_file():
                        yield entry
        except OSError as error:
            raise VideoError(f"{self.path} cannot be read", error.strerror or str(error)) from None


def frames_of_folder(path: Path, fps: float, bounds: Bounds, waits: Waits) -> Iterator[Raw]:
    """Frames of what is in a folder and what comes into it. Pictures are 1/fps seconds apart. Raises VideoError."""
    count, last = 0, ""
    for file in Folder(path, waits).files():
        if in_number_order(file.name) < in_number_order(last):
            yield Notice("late", f"{file.name} came after {last}")
        else:
            last = file.name
        try:
            if file.suffix.lower() in PICTURES:
                picture = load_clip(file, frames=1, max_pixels=bounds.max_pixels, max_side=bounds.max_side).frames[0]
                yield Shown(picture, count / fps)
                count += 1
            else:
                yield Joint()
                yield from frames_of_file(os.fspath(file), bounds)
                yield Joint()
        except VideoError as error:
            yield Notice("damaged", f"{file.name} was passed over: {error.why or error.what}")
