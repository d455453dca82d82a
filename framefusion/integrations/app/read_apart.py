"""The process that fetches or reads one clip, started by reading.py.

What to do comes as a line of JSON on standard input; what was done, or why it was not, goes out as another one, and
the frames or the bytes into a file. A file of a stranger may make a decoder crash, loop or take memory: here it has a
process alone. It knows no model: whoever started it makes each frame smaller, see `AskedResize`.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from framefusion.core.errors import FrameFusionError


class AskedResize:
    """Has frames resized by the process that started this one, one by one as they are decoded."""

    def size(self, frames: int, height: int, width: int) -> tuple[int, int] | None:
        _say({"size": [frames, height, width]})
        size = json.loads(sys.stdin.buffer.readline())
        return None if size is None else (size[0], size[1])

    def frame(self, picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        _say({"frame": picture.shape[:2]}, picture.tobytes())
        return np.frombuffer(sys.stdin.buffer.read(size[0] * size[1] * 3), np.uint8).reshape(*size, 3)


def _say(what: dict[str, Any], pixels: bytes = b"") -> None:
    sys.stdout.buffer.write(json.dumps(what).encode() + b"\n" + pixels)
    sys.stdout.buffer.flush()


def bound(memory: int, file: int) -> None:
    """Bytes of address space, and of any file that is written. Windows has no such bounds."""
    try:
        import resource
    except ImportError:
        return
    for kind, most in ((resource.RLIMIT_AS, memory), (resource.RLIMIT_FSIZE, file)):
        hard = resource.getrlimit(kind)[1]
        resource.setrlimit(kind, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))


def fetch(order: dict[str, Any]) -> dict[str, Any]:
    """order: the "address" of what goes into the file "out"."""
    from framefusion.inference.media.web import download

    with open(order["out"], "wb") as file:
        download(order["address"], file)
    return {}


def read(order: dict[str, Any]) -> dict[str, Any]:
    """order: "name" and number of "frames" of a file, whose frames go into the file "out"; "resize", whether they are.

    Returns the other fields.
    """
    from framefusion.inference.media import MediaOptions, load_media

    started = time.perf_counter()
    resize = AskedResize() if order["resize"] else None
    clip = load_media(Path(order["name"]), MediaOptions(frames=order["frames"], offline=True), resize)
    np.save(order["out"], clip.frames)
    fields = {name: value for name, value in vars(clip).items() if name != "frames"}
    return {"clip": fields, "ms": (time.perf_counter() - started) * 1e3}


def main() -> None:
    order = json.loads(sys.stdin.buffer.readline())
    bound(order["memory"], order["file"])
    try:
        done = fetch(order) if "address" in order else read(order)
    except FrameFusionError as error:
        done = {"error": type(error).__name__, "said": [error.what, error.why, error.hint]}
    _say(done)


if __name__ == "__main__":
    main()
