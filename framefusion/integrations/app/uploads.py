"""The clips of visitors: each its own, in a folder that the server shows to nobody, until it is used or too old."""

from __future__ import annotations

import os
import secrets
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock

from framefusion.core.errors import VideoNotFoundError, VideoTooLargeError
from framefusion.core.text import one_line
from framefusion.integrations.app.limits import KEPT_SECONDS, STORED, Limits

_LONGEST = 80
"""Characters of a name that are shown."""


@dataclass(frozen=True)
class Upload:
    """path: where it is. name: what its visitor calls it, for people only. size: in bytes. since: seconds."""

    path: Path
    name: str
    size: int
    since: float


@dataclass
class Uploads:
    """One upload per visitor. folder: of the server alone. now: seconds on a clock that only goes on."""

    folder: Path
    limits: Limits
    now: Callable[[], float] = time.monotonic
    _held: dict[str, Upload] = field(default_factory=dict)
    _lock: Lock = field(default_factory=Lock)

    def take(self, visitor: str, arrived: Path, name: str) -> Upload:
        """Move what arrived here under a name of ours, in place of the visitor's last one.

        Raises VideoTooLargeError where it or all of them together are too large; the file is gone then as well.
        """
        self.drop(visitor)
        self.expire()
        try:
            size = arrived.stat().st_size
        except OSError:
            raise VideoNotFoundError(f"{name} did not arrive", hint="drop it again") from None
        with self._lock:
            stored = sum(upload.size for upload in self._held.values())
            if size > self.limits.upload or stored + size > STORED * self.limits.upload:
                arrived.unlink(missing_ok=True)
                raise _too_large(name, size, self.limits.upload)
            path = self.folder / secrets.token_hex(16)
            shutil.move(arrived, path)
            with suppress(OSError):  # the folder that was made for it alone
                os.rmdir(arrived.parent)
            self._held[visitor] = Upload(path, shown(name), size, self.now())
            return self._held[visitor]

    def of(self, visitor: str) -> Upload:
        """Raises VideoNotFoundError where the visitor has none any more."""
        with self._lock:
            if visitor in self._held:
                return self._held[visitor]
        raise VideoNotFoundError(
            "there is no clip", f"clips are deleted after {KEPT_SECONDS // 60} minutes", "drop one, or take an example"
        )

    def drop(self, visitor: str) -> None:
        """Delete what the visitor has."""
        with self._lock:
            gone = self._held.pop(visitor, None)
        if gone is not None:
            gone.path.unlink(missing_ok=True)

    def expire(self) -> None:
        """Delete what is older than an hour."""
        with self._lock:
            old = [visitor for visitor, held in self._held.items() if self.now() - held.since > KEPT_SECONDS]
        for visitor in old:
            self.drop(visitor)


def is_full(folder: Path, limits: Limits) -> bool:
    """Whether what arrived in `folder`, and became nobody's clip yet, is as much as may be kept."""
    size = 0
    for path in folder.rglob("*"):
        with suppress(OSError):  # it became somebody's clip meanwhile
            size += 0 if path.is_dir() else path.stat().st_size
    return size > (STORED - 1) * limits.upload


def shown(name: str) -> str:
    """The last part of a name, in one line of bounded length."""
    last = one_line(name.replace("\\", "/").rpartition("/")[2])
    return last if len(last) <= _LONGEST else f"{last[: _LONGEST // 2]}…{last[-_LONGEST // 2 + 1 :]}"


def _too_large(name: str, size: int, most: int) -> VideoTooLargeError:
    if size > most:
        why = f"it has {size} bytes, and {most} are taken"
        return VideoTooLargeError(f"{shown(name)} is too large", why, "cut it, or encode it at a smaller size")
    return VideoTooLargeError(f"{shown(name)} is not taken", "too many clips are here at the moment", "try again later")
