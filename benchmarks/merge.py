"""One merging call at the size of 64 frames of a 7B model, beside the published steps and beside a plain copy."""

from __future__ import annotations

from typing import Any

import torch

import framefusion as ff
from benchmarks.cells import Cell
from benchmarks.inputs import make_prompt
from benchmarks.shapes import TEXTS
from benchmarks.timing import Laps, Watch
from framefusion.intercept.decisions import Decisions
from framefusion.intercept.stream import Stream
from framefusion.method import after_attention, before
from tests.reference.framefusion_merge import merge

THRESHOLD = 0.6


class MergeTrial:
    """The same merge three ways. copy: the hidden state into a tensor that has been written before."""

    def __init__(self, cell: Cell, dtype: torch.dtype, device: torch.device) -> None:
        self.device = device
        self.prompt = make_prompt(cell.frames, cell.patches, TEXTS[cell.shape].width, dtype, device)
        self.target = torch.empty_like(self.prompt.embeds).copy_(self.prompt.embeds)
        self.work = self.target.clone()
        self.facts: dict[str, Any] = {}

    def runs(self) -> dict[str, Any]:
        return {
            "copy": self.copy,
            "reduced": self.reduced,
            "reduced in place": self.in_place,
            "published": self.published,
        }

    def copy(self) -> Laps:
        watch = Watch(self.device)
        self.target.copy_(self.prompt.embeds)
        return {"merge": watch.lap()}

    @torch.no_grad()
    def reduced(self) -> Laps:
        return self._decide(before(0), self.prompt.embeds)

    @torch.no_grad()
    def in_place(self) -> Laps:
        self.work.copy_(self.prompt.embeds)
        return self._decide(after_attention(0), self.work)

    def _decide(self, point: Any, hidden: Any) -> Laps:
        (stage,) = ff.FrameFusion(cost=0.3, similarity_lower_bound=THRESHOLD).stages()
        length = hidden.shape[1]
        stream = Stream.begin(self.prompt.layout, 1, length, None, self.device)
        decisions = Decisions((stage,), stream, 28, torch.tensor([length - 1], device=self.device))
        watch = Watch(self.device)
        step = decisions.ask(0, point, stream, hidden)
        decided = watch.lap()
        assert step is not None
        short = step.apply_in_place(hidden) if point.place == "after_attention" else step.apply(hidden)
        applied = watch.lap()
        self.facts = {"tokens": length, "left": short.shape[1], "profile": self.prompt.profile}
        return {"merge": decided + applied, "decision": decided, "application": applied}

    @torch.no_grad()
    def published(self) -> Laps:
        hidden, patch = self.prompt.embeds[0], torch.full((self.prompt.length,), -1)
        geometry, placement = self.prompt.layout.rows[0]
        patch[placement.columns] = geometry.patch
        watch = Watch(self.device)
        merge(hidden, patch, THRESHOLD)
        return {"merge": watch.lap()}
