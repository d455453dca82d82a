"""One policy watches one long stream, in a process of its own whose memory is its own, too."""

from __future__ import annotations

import json
import sys
import time
from itertools import islice
from typing import Any

import numpy as np

from benchmarks.peak import asked_apart
from framefusion.inference.answer.memory import peak_bytes

PATIENCE = 4 * 3600
"""Seconds a stream may take."""


def watched_apart(policy: str, memory: int, window: int, frames: int, marks: list[int], threads: int) -> dict[str, Any]:
    """What `watched` finds, in a fresh process."""
    asked = {"policy": policy, "memory": memory, "window": window, "frames": frames, "marks": marks}
    return asked_apart("benchmarks.stream.watch", {**asked, "threads": threads}, PATIENCE)


def watched(asked: dict[str, Any]) -> dict[str, Any]:
    """window_ms, window_cpu_ms: of each window, what feeding it took by the clock and of the processor, without making
    its frames. marks: by number of windows, bytes of cache and peak of process.
    """
    import torch

    import framefusion as ff
    from framefusion.evaluation.long_streams import draw_world, film
    from framefusion.evaluation.synthetic_questions import FPS
    from framefusion.inference.tiny import NAME

    torch.set_num_threads(asked["threads"])
    window, device = asked["window"], torch.device("cpu")
    checkpoint = ff.load_checkpoint(NAME, device="cpu")
    pictures = film(draw_world(0, asked["frames"]))
    window_ms: list[float] = []
    window_cpu_ms: list[float] = []
    marks: dict[str, dict[str, int | None]] = {}
    with ff.stream(
        checkpoint.model, checkpoint.processor, memory=asked["memory"], policy=asked["policy"], window=window
    ) as video:
        while part := list(islice(pictures, window)):
            first = len(window_ms) * window
            seconds = [(first + number) / FPS for number in range(len(part))]
            clock, processor = time.perf_counter(), time.process_time()
            video.feed(np.stack(part), seconds)
            window_ms.append((time.perf_counter() - clock) * 1e3)
            window_cpu_ms.append((time.process_time() - processor) * 1e3)
            if len(window_ms) in asked["marks"]:
                marks[str(len(window_ms))] = {"cache": video.status.cache_bytes, "peak": peak_bytes(device)}
    return {"window_ms": window_ms, "window_cpu_ms": window_cpu_ms, "marks": marks}


if __name__ == "__main__":
    print(json.dumps(watched(json.load(sys.stdin))))
