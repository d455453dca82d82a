"""Peak memory of the vision tower alone, in a process of its own: `python -m benchmarks.tower.memory` reads JSON."""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

import torch

import framefusion as ff
from benchmarks.peak import asked_apart
from benchmarks.timing import Laps
from benchmarks.tower import model as shapes
from framefusion.inference.answer.memory import CLEAR_REFERENCES, peak_bytes, reset_peak

MEMORY = "memory"
SIDE, FEW, MANY = 168, 32, 256
"""Pixels along a side, and the two lengths that are compared."""
WINDOW = 32
"""Frames the tower works on at a time, where it does not take all at once."""
ALL, WINDOWED, DENSE_WINDOWED = "reduced", "reduced, windows", "dense, windows"
VARIANTS = ("dense", DENSE_WINDOWED, ALL, WINDOWED)


def peak_apart(frames: int, variant: str) -> tuple[Laps, float | None]:
    """Milliseconds and MiB that the tower takes for a clip beyond weights, pixels and the features it returns; no MiB
    where nobody can say.
    """
    asked = {"frames": frames, "variant": variant, "threads": torch.get_num_threads()}
    told = asked_apart("benchmarks.tower.memory", asked)
    return {MEMORY: told["ms"]}, told["peak_mib"]


@torch.no_grad()
def answer(asked: dict[str, Any]) -> dict[str, Any]:
    """What `peak_apart` asks for, in the process it has started."""
    torch.set_num_threads(asked["threads"])
    model = shapes.build("0.5B", layers=1, blocks=1)
    run = _Tower(model, asked["variant"])
    run(FEW)  # Buffers that libraries keep for products of these sizes are no memory of longer clips.
    return run(asked["frames"])


class _Tower:
    """Runs the model on a clip whose middle moves, and watches its tower."""

    def __init__(self, model: Any, variant: str) -> None:
        self.model, self.variant = model, variant
        self.seen: dict[str, Any] = {}

    def __call__(self, frames: int) -> dict[str, Any]:
        draw = torch.Generator().manual_seed(4)
        pixels = torch.rand(1, 3, SIDE, SIDE, generator=draw).repeat(frames, 1, 1, 1)
        third = SIDE // 3
        pixels[:, :, third : 2 * third, third : 2 * third] = torch.rand(frames, 3, third, third, generator=draw)
        given = shapes.inputs(pixels)
        del pixels
        reduction = None
        if self.variant != "dense":
            frames_at_once = WINDOW if self.variant in (WINDOWED, DENSE_WINDOWED) else None
            method = ff.PixelDedup(keep=1.0 if self.variant == DENSE_WINDOWED else None)
            reduction = ff.reduce(self.model, method, tower_frames=frames_at_once)
        tower = self.model.model.visual
        handles = tower.register_forward_pre_hook(self._begin, prepend=True), tower.register_forward_hook(self._end)
        try:
            self.model(**given, logits_to_keep=1)
        finally:
            for handle in handles:
                handle.remove()
            if reduction is not None:
                reduction.remove()
        return self.seen

    def _begin(self, *_: Any) -> None:
        reset_peak(torch.device("cpu"))
        self.before, self.started = peak_bytes(torch.device("cpu")), time.perf_counter()

    def _end(self, module: Any, args: Any, output: Any) -> None:
        passed, after = (time.perf_counter() - self.started) * 1e3, peak_bytes(torch.device("cpu"))
        peak = None
        if os.access(CLEAR_REFERENCES, os.W_OK) and self.before is not None and after is not None:
            peak = round((after - self.before - output.pooler_output.nbytes) / 2**20, 1)
        self.seen = {"ms": passed, "peak_mib": peak}


if __name__ == "__main__":
    print(json.dumps(answer(json.load(sys.stdin))))
