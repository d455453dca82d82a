"""One merging call at the size of 64 frames of a 7B model, beside the published steps and beside a plain copy."""

from __future__ import annotations

from typing import Any

import torch

from benchmarks.cells import THRESHOLD, Cell
from benchmarks.inputs import make_prompt
from benchmarks.shapes import TEXTS
from benchmarks.timing import Laps, Watch
from framefusion.core.method import Point, after_attention, before
from framefusion.core.ops.weighted import weighted_rows
from framefusion.engine.decoder.decide import Decisions
from framefusion.engine.sequence.reduce import ReductionStep
from framefusion.engine.sequence.state import SequenceState
from tests.reference.framefusion_merge import merge


class MergeTrial:
    """The same merge in every way. copy: the hidden state into a tensor that has been written before. oracle: the sums
    of a decision made beforehand.
    """

    def __init__(self, cell: Cell, method: Any, dtype: torch.dtype, device: torch.device) -> None:
        text = TEXTS[cell.shape]
        self.device, self.method, self.depth = device, method, text.depth
        self.prompt = make_prompt(cell.frames, cell.patches, text.width, dtype, device)
        self.target = torch.empty_like(self.prompt.embeds).copy_(self.prompt.embeds)
        self.work = self.target.clone()
        geometry, placement = self.prompt.layout.rows[0]
        self.patch = torch.full((self.prompt.length,), -1)
        self.patch[placement.columns] = geometry.patch
        self.patch = self.patch.to(device)
        step = self._decide(before(0), self.prompt.embeds)
        assert step.sums is not None
        self.sums = step.sums
        length, left = self.prompt.length, step.gather.shape[1]
        self.facts: dict[str, Any] = {"tokens": length, "left": left, "profile": self.prompt.profile}

    def runs(self) -> dict[str, Any]:
        return {
            "copy": self.copy,
            "reduced": self.reduced,
            "reduced in place": self.in_place,
            "oracle": self.oracle,
            "published": self.published,
        }

    def copy(self) -> Laps:
        watch = Watch(self.device)
        self.target.copy_(self.prompt.embeds)
        return {"merge": watch.lap()}

    def reduced(self) -> Laps:
        return self._merge(before(0), self.prompt.embeds)

    def in_place(self) -> Laps:
        self.work.copy_(self.prompt.embeds)
        return self._merge(after_attention(0), self.work)

    @torch.no_grad()
    def _merge(self, point: Point, hidden: Any) -> Laps:
        watch = Watch(self.device)
        step = self._decide(point, hidden, watch)
        decided = watch.lap()
        step.apply_in_place(hidden) if point.place == "after_attention" else step.apply(hidden)
        applied = watch.lap()
        return {"merge": decided + applied, "decision": decided, "application": applied}

    @torch.no_grad()
    def _decide(self, point: Point, hidden: Any, watch: Watch | None = None) -> ReductionStep:
        """What the stage wants done at `point`. watch: begins anew when all that precedes a decision is there."""
        (stage,) = self.method.stages()
        length = hidden.shape[1]
        stream = SequenceState.begin(self.prompt.layout, 1, length, None, self.device)
        decisions = Decisions((stage,), stream, self.depth, torch.tensor([length - 1], device=self.device))
        if watch is not None:
            watch.lap()
        step = decisions.ask(0, point, stream, hidden)
        assert step is not None
        return step

    @torch.no_grad()
    def oracle(self) -> Laps:
        watch = Watch(self.device)
        weighted_rows(self.prompt.embeds[0], self.sums)
        return {"merge": watch.lap()}

    @torch.no_grad()
    def published(self) -> Laps:
        watch = Watch(self.device)
        merge(self.prompt.embeds[0], self.patch, THRESHOLD)
        return {"merge": watch.lap()}
