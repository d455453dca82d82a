"""The process that fetches or reads one clip, started by reading.py.

What to do comes as one JSON object on standard input; what was done, or why it was not, goes out as another one, and
the frames or the bytes into a file. A file of a stranger may make a decoder crash, loop or take memory: here it has a
process alone.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

from framefusion.core.errors import FrameFusionError


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
    """order: "name" and number of "frames" of a file, whose frames go into the file "out". Returns the other fields."""
    import numpy as np

    from framefusion.inference.media import MediaOptions, load_media

    started = time.perf_counter()
    clip = load_media(Path(order["name"]), MediaOptions(frames=order["frames"], offline=True))
    np.save(order["out"], clip.frames)
    fields = {name: value for name, value in vars(clip).items() if name != "frames"}
    return {"clip": fields, "ms": (time.perf_counter() - started) * 1e3}


def main() -> None:
    order = json.load(sys.stdin)
    bound(order["memory"], order["file"])
    try:
        done = fetch(order) if "address" in order else read(order)
    except FrameFusionError as error:
        done = {"error": type(error).__name__, "said": [error.what, error.why, error.hint]}
    json.dump(done, sys.stdout)


if __name__ == "__main__":
    main()
