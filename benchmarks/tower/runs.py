"""From the file to the answer, part by part, dense and reduced."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch

import framefusion as ff
from benchmarks.timing import Laps, Watch
from benchmarks.tower import clips
from benchmarks.tower.model import inputs
from framefusion.inference.answer.answer import Stopwatch
from framefusion.inference.answer.split import vision_times

DENSE, REDUCED, LANGUAGE = "dense", "reduced", "language model alone reduced"
DECODE, PREPARE, DECIDE, TOWER, PROJECTOR, PREFILL, ANSWER, WHOLE = (
    "decode of the video",
    "preprocessing",
    "decision",
    "vision tower",
    "projector",
    "prefill",
    "decode",
    "end_to_end",
)


@dataclass
class Trial:
    """One file in one model. methods: by variant, None for the model as it is. facts: by variant, of its last run."""

    model: Any
    path: Path
    frames: int
    side: int
    tokens: int
    methods: dict[str, ff.Method | None]
    facts: dict[str, dict[str, Any]] = field(default_factory=dict)

    def runs(self) -> dict[str, Callable[[], Laps]]:
        return {name: partial(self.run, name) for name in self.methods}

    @torch.no_grad()
    def run(self, variant: str) -> Laps:
        """Milliseconds of every part, and of the whole."""
        device = self.model.device
        watch, started = Watch(device), time.perf_counter()
        clip = clips.load(self.path, self.frames)
        laps = {DECODE: watch.lap()}
        given = {name: value.to(device) for name, value in inputs(clips.resized(clip, self.side)).items()}
        laps[PREPARE] = watch.lap()
        method, ticks = self.methods[variant], Stopwatch(device)
        with ExitStack() as stack:
            reduction = stack.enter_context(ff.reduce(self.model, method)) if method is not None else None
            vision = stack.enter_context(vision_times(self.model))
            deciding = stack.enter_context(decisions())
            called = time.perf_counter()
            self.model.generate(
                **given, do_sample=False, max_new_tokens=self.tokens, min_new_tokens=self.tokens,
                stopping_criteria=[ticks],
            )  # fmt: skip
        laps[TOWER], laps[PROJECTOR] = vision.tower_ms or 0.0, vision.projector_ms or 0.0
        laps[PREFILL] = (ticks.times[0] - called) * 1e3 - laps[TOWER] - laps[PROJECTOR]
        laps[ANSWER] = (ticks.times[-1] - ticks.times[0]) * 1e3
        laps[WHOLE] = (ticks.times[-1] - started) * 1e3
        if deciding:
            laps[DECIDE] = sum(deciding)
        self.facts[variant] = facts_of(reduction)
        return laps


def facts_of(reduction: ff.Reduction | None) -> dict[str, Any]:
    """Share of the patches that entered the tower, and cost of the visual tokens in the language model."""
    if reduction is None:
        return {"patches_share": 1.0, "measured_cost": 1.0}
    report = reduction.report
    share = report.patches / report.patches_dense if report.patches_dense else 1.0
    return {"patches_share": round(share, 4), "measured_cost": round(report.cost, 4)}


@contextmanager
def decisions() -> Iterator[list[float]]:
    """Milliseconds of every decision from pixels inside the block."""
    from framefusion.engine.vision.encoded import Encoded

    spent: list[float] = []
    decide = Encoded.decide

    def clocked(*args: Any, **kwargs: Any) -> Any:
        started = time.perf_counter()
        try:
            return decide(*args, **kwargs)
        finally:
            spent.append((time.perf_counter() - started) * 1e3)

    Encoded.decide = staticmethod(clocked)  # type: ignore[method-assign]
    try:
        yield spent
    finally:
        Encoded.decide = staticmethod(decide)  # type: ignore[method-assign]
