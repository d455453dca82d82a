"""One policy watches one long stream, in a process of its own whose memory is its own, too."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np

from benchmarks.peak import asked_apart
from framefusion.evaluation.synthetic_questions import FPS
from framefusion.inference.answer.memory import peak_bytes

PATIENCE = 4 * 3600
"""Seconds a stream may take."""
TURNS = 21
"""Windows of the old and the young stream that are fed by turns."""


def watched_apart(policy: str, memory: int, window: int, frames: int, early: int, threads: int) -> dict[str, Any]:
    """What `watched` finds, in a fresh process."""
    asked = {"policy": policy, "memory": memory, "window": window, "frames": frames, "early": early}
    return asked_apart("benchmarks.stream.watch", {**asked, "threads": threads}, PATIENCE)


@dataclass
class Watched:
    """A stream and the film it is fed. spent: of each window, milliseconds by the clock and of the processor, without
    making its frames."""

    video: Any
    film: Iterator[Any]
    window: int
    spent: list[tuple[float, float]] = field(default_factory=list)

    def feed(self, windows: int) -> None:
        for _ in range(windows):
            first = len(self.spent) * self.window
            part = np.stack(list(islice(self.film, self.window)))
            seconds = [(first + number) / FPS for number in range(len(part))]
            clock, processor = time.perf_counter(), time.process_time()
            self.video.feed(part, seconds)
            self.spent.append(((time.perf_counter() - clock) * 1e3, (time.process_time() - processor) * 1e3))


def watched(asked: dict[str, Any]) -> dict[str, Any]:
    """spent: of each window, see `Watched`. marks: after `early` and after all windows, bytes of cache and peak of
    process. young, old: what windows took by turns in a second stream, from its window `early` on, and in the first
    one behind its end, so that a machine that grows slower is as slow for both.
    """
    import torch

    import framefusion as ff
    from framefusion.evaluation.long_streams import draw_world, film
    from framefusion.inference.tiny import NAME

    torch.set_num_threads(asked["threads"])
    checkpoint = ff.load_checkpoint(NAME, device="cpu")
    window, early, device = asked["window"], asked["early"], torch.device("cpu")
    windows = asked["frames"] // window

    def opened(seed: int, count: int, stack: ExitStack) -> Watched:
        settings = {"memory": asked["memory"], "policy": asked["policy"], "window": window}
        video = stack.enter_context(ff.stream(checkpoint.model, checkpoint.processor, **settings))
        return Watched(video, film(draw_world(seed, count * window)), window)

    with ExitStack() as stack:
        old, marks = opened(0, windows + TURNS, stack), []
        for count in (early, windows - early):
            old.feed(count)
            marks.append({"cache": old.video.status.cache_bytes, "peak": peak_bytes(device)})
        young = opened(1, early + TURNS, stack)
        young.feed(early)
        for _ in range(TURNS):
            young.feed(1)
            old.feed(1)
    turns = {"young": young.spent[early:], "old": old.spent[windows:]}
    return {"spent": old.spent[:windows], "marks": marks, **turns}


if __name__ == "__main__":
    print(json.dumps(watched(json.load(sys.stdin))))
