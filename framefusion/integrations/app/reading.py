"""A clip of a stranger, fetched and read in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from shutil import rmtree
from tempfile import TemporaryDirectory, mkdtemp
from typing import TYPE_CHECKING, Any

from framefusion.core import errors
from framefusion.core.errors import BrokenVideoError, FrameFusionError, VideoTooLargeError
from framefusion.integrations.app.limits import READ_BYTES, READ_SECONDS

if TYPE_CHECKING:
    from framefusion.inference.video import Clip

MOST_FRAMES = 2**30
"""Bytes of all frames of a clip, which its bound on pixels keeps them from."""

_MODULE = "framefusion.integrations.app.read_apart"
_HINT = "check that it plays elsewhere, or convert it to mp4"


@dataclass(frozen=True)
class Reader:
    """folder: for what is on its way. seconds, memory: what one reading may take. fetched: bytes from an address."""

    folder: Path
    seconds: float = READ_SECONDS
    memory: int = READ_BYTES
    fetched: int = 100 * 2**20

    def clip(self, name: str, shown: str, frames: int) -> tuple[Clip, float]:
        """At most `frames` frames of the file `name`, which people know as `shown`, and the milliseconds it took.

        Raises VideoError as `load_clip` does, and where the process that reads ends or takes too long.
        """
        import numpy as np

        from framefusion.inference.video import Clip

        with TemporaryDirectory(dir=self.folder) as folder:
            out = Path(folder) / "frames.npy"
            done = self._run({"name": name, "frames": frames, "out": str(out)}, shown, MOST_FRAMES)
            if "error" in done:
                raise _said(done, name, shown)
            fields = done["clip"] | {"source": shown}
            for key in ("timestamps", "indices"):
                fields[key] = tuple(fields[key])
            return Clip(frames=np.load(out), **fields), done["ms"]

    def fetch(self, address: str) -> Path:
        """A new file with what is at an http or https address of the public network.

        Raises AddressError for any other, and for what cannot be fetched.
        """
        out = Path(mkdtemp(dir=self.folder)) / "fetched"
        try:
            done = self._run({"address": address, "out": str(out)}, address, self.fetched)
            if "error" in done:
                raise _said(done, str(out), address)
        except FrameFusionError:
            rmtree(out.parent)
            raise
        return out

    def _run(self, order: dict[str, Any], shown: str, file: int) -> dict[str, Any]:
        bounds = {"memory": self.memory, "file": file}
        command = [sys.executable, "-m", _MODULE]
        try:
            done = subprocess.run(
                command, input=json.dumps(order | bounds), capture_output=True, text=True, timeout=self.seconds
            )
        except subprocess.TimeoutExpired:
            why = f"it takes longer than {self.seconds:.0f} seconds"
            raise VideoTooLargeError(f"{shown} is not read on", why, "cut it into shorter pieces") from None
        if done.returncode != 0:
            raise _ended(done.returncode, done.stderr, shown)
        found: dict[str, Any] = json.loads(done.stdout)
        return found


def _said(done: dict[str, Any], name: str, shown: str) -> FrameFusionError:
    """The error of the other process, without the place of the file."""
    kind = getattr(errors, done["error"], errors.VideoError)
    error: FrameFusionError = kind(*(part.replace(repr(name), shown).replace(name, shown) for part in done["said"]))
    return error


def _ended(status: int, said: str, shown: str) -> FrameFusionError:
    """Of a process that did not come to its end."""
    if "MemoryError" in said:
        why = "it takes more memory than it may"
        return VideoTooLargeError(f"{shown} cannot be read", why, "ask for fewer frames, or scale it down")
    return BrokenVideoError(f"{shown} cannot be read", f"the process that read it ended with {status}", _HINT)
