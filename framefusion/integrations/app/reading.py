"""A clip of a stranger, fetched and read in a process of its own."""

from __future__ import annotations

import json
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from shutil import rmtree
from subprocess import PIPE, Popen
from tempfile import TemporaryDirectory, TemporaryFile, mkdtemp
from threading import Event, Timer
from typing import TYPE_CHECKING, Any

from framefusion.core import errors
from framefusion.core.errors import BrokenVideoError, FrameFusionError, VideoTooLargeError
from framefusion.inference.video.limits import DEFAULT_MAX_PIXELS
from framefusion.integrations.app.limits import READ_BYTES, READ_SECONDS

if TYPE_CHECKING:
    from framefusion.inference.video import Clip
    from framefusion.inference.video.limits import Resize

LONGEST = 2**20
"""Bytes of what the process says at a time, beside pixels."""
MOST_FRAMES = 2**30
"""Bytes of all frames of a clip, which its bound on pixels keeps them from."""

_COMMAND = (sys.executable, "-m", "framefusion.integrations.app.read_apart")
_HINT = "check that it plays elsewhere, or convert it to mp4"


@dataclass(frozen=True)
class Reader:
    """folder: for what is on its way. seconds, memory: what one reading may take. fetched: bytes from an address."""

    folder: Path
    seconds: float = READ_SECONDS
    memory: int = READ_BYTES
    fetched: int = 100 * 2**20

    def clip(self, name: str, shown: str, frames: int, resize: Resize | None = None) -> tuple[Clip, float]:
        """At most `frames` frames of the file `name`, which people know as `shown`, and the milliseconds it took.

        resize: as for `load_clip`; it runs here, where the model is, and is given one frame at a time.

        Raises VideoError as `load_clip` does, and where the process that reads ends or takes too long.
        """
        import numpy as np

        from framefusion.inference.video import Clip

        with TemporaryDirectory(dir=self.folder) as folder:
            out = Path(folder) / "frames.npy"
            order = {"name": name, "frames": frames, "out": str(out), "resize": resize is not None}
            done = self._run(order, shown, MOST_FRAMES, resize)
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

    def _run(self, order: dict[str, Any], shown: str, file: int, resize: Resize | None = None) -> dict[str, Any]:
        order = order | {"memory": self.memory, "file": file}
        late = Event()
        with TemporaryFile() as log, Popen(_COMMAND, stdin=PIPE, stdout=PIPE, stderr=log) as child:

            def end() -> None:
                late.set()
                child.kill()

            timer = Timer(self.seconds, end)
            timer.start()
            try:
                found = _dialogue(child, order, resize)
                status = child.wait()
            except BaseException:
                child.kill()
                raise
            finally:
                timer.cancel()
            log.seek(0)
            said = log.read().decode(errors="replace")
        if found is not None:
            return found
        if late.is_set():
            why = f"it takes longer than {self.seconds:.0f} seconds"
            raise VideoTooLargeError(f"{shown} is not read on", why, "cut it into shorter pieces")
        raise _ended(status, said, shown)


def _dialogue(child: Popen[bytes], order: dict[str, Any], resize: Resize | None) -> dict[str, Any] | None:
    """Tell the process what to do, resize its frames, and return its last word, None if it ends without one.

    A file may have taken it over, so that what it says is not believed.
    """
    import numpy as np

    assert child.stdin is not None and child.stdout is not None
    size: tuple[int, int] | None = None
    answer = _line(order)
    try:
        while True:
            child.stdin.write(answer)
            child.stdin.flush()
            line = child.stdout.readline(LONGEST)
            said = json.loads(line) if line else None
            if said is None or resize is None or not said.keys() & {"size", "frame"}:
                return said
            if "size" in said:
                size = resize.size(*_counts(said["size"], 3))
                answer = _line(size)
            else:
                height, width = _counts(said["frame"], 2)
                pixels = bytearray(child.stdout.read(height * width * 3))
                picture = np.frombuffer(pixels, np.uint8).reshape(height, width, 3)
                answer = picture.tobytes() if size is None else resize.frame(picture, size).tobytes()
    except BrokenPipeError:
        with suppress(BrokenPipeError):
            child.stdin.close()  # with what could not be written
        return None
    except (ValueError, TypeError, AttributeError):
        child.kill()
        return None


def _line(what: Any) -> bytes:
    return json.dumps(what).encode() + b"\n"


def _counts(given: Any, number: int) -> tuple[int, ...]:
    """So many counts, the last two of them sides of a frame that may be kept. Raises ValueError."""
    counts = tuple(given)
    if len(counts) != number or any(type(count) is not int or count < 1 for count in counts):
        raise ValueError(counts)
    if counts[-2] * counts[-1] > DEFAULT_MAX_PIXELS:
        raise ValueError(counts)
    return counts


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
