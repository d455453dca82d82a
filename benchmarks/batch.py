"""Rows of unequal length together, beside the same rows one by one."""

from __future__ import annotations

from typing import Any

import torch

import framefusion as ff
from benchmarks.cells import Cell
from benchmarks.inputs import HEAD, make_prompt
from benchmarks.shapes import TEXTS
from benchmarks.timing import Laps, Watch
from benchmarks.variants import TOKEN, facts_of
from framefusion.core.layout import Layout
from framefusion.engine.model.cache_names import cache_name, cache_of

DENSE_BATCH, REDUCED_BATCH = BATCHES = ("dense, batch", "reduced, batch")
SHORTEST = 0.4
"""Frames of the shortest row, as a share of those of the longest."""


class BatchTrial:
    """`cell.rows` videos of unequal length, padded on the left. facts: by variant; those of the batches say what a
    prefill left behind, padding included.
    """

    def __init__(self, cell: Cell, model: Any, method: Any, dtype: torch.dtype, device: torch.device) -> None:
        self.model, self.method, self.device, self.decode = model, method, device, cell.decode
        width = TEXTS[cell.shape].width
        shares = torch.linspace(1.0, SHORTEST, cell.rows).tolist()
        frames = [max(2, round(cell.frames * share)) for share in shares]
        self.rows = [make_prompt(count, cell.patches, width, dtype, device) for count in frames]
        self.length = max(row.length for row in self.rows)
        self.shared = {"lengths": [row.length for row in self.rows], "profile": self.rows[0].profile}
        self.facts: dict[str, dict[str, Any]] = {name: dict(self.shared) for name in self.runs()}
        self.embeds = torch.zeros(cell.rows, self.length, width, dtype=dtype, device=device)
        self.mask = torch.zeros(cell.rows, self.length, dtype=torch.long, device=device)
        positions, places = torch.zeros(3, cell.rows, self.length, dtype=torch.long, device=device), []
        for number, row in enumerate(self.rows):
            pad = self.length - row.length
            self.embeds[number, pad:], self.mask[number, pad:] = row.embeds[0], 1
            positions[:, number, pad:] = row.positions[:, 0]
            places.append((row.layout.rows[0][0], row.layout.rows[0][1].shifted(pad)))
        self.positions, self.layout = positions, Layout(tuple(places), self.length)
        assert places[0][1].columns[0] == HEAD

    def runs(self) -> dict[str, Any]:
        return {
            DENSE_BATCH: lambda: self._batch(DENSE_BATCH),
            "dense, one by one": lambda: self._alone(False),
            REDUCED_BATCH: lambda: self._batch(REDUCED_BATCH),
            "reduced, one by one": lambda: self._alone(True),
        }

    def _batch(self, variant: str) -> Laps:
        given = (self.embeds, self.positions, self.mask, self.layout)
        return self._per_row(self._run(variant == REDUCED_BATCH, *given, self.facts[variant]))

    def _alone(self, reduced: bool) -> Laps:
        total: Laps = {}
        for row in self.rows:
            for part, time in self._run(reduced, row.embeds, row.positions, None, row.layout).items():
                total[part] = total.get(part, 0.0) + time
        return self._per_row(total)

    def _per_row(self, laps: Laps) -> Laps:
        return {f"{part} per row": time / len(self.rows) for part, time in laps.items()}

    @torch.no_grad()
    def _run(
        self, reduced: bool, embeds: Any, positions: Any, mask: Any, layout: Any, facts: dict[str, Any] | None = None
    ) -> Laps:
        reduction = ff.reduce(self.model, self.method, layout=layout) if reduced else None
        try:
            watch = Watch(self.device)
            given = {"inputs_embeds": embeds, "position_ids": positions, "attention_mask": mask}
            output = self.model(**given, use_cache=True, logits_to_keep=1)
            laps, cache = {"prefill": watch.lap()}, cache_of(output)
            if facts is not None:
                facts.update(facts_of(cache, reduction.report if reduction else None))
            watch.lap()
            token = torch.full((len(embeds), 1), TOKEN, device=self.device)
            for _ in range(self.decode):
                mask = None if mask is None else torch.cat([mask, torch.ones_like(mask[:, :1])], 1)
                positions = positions[..., -1:] + 1
                given = {"input_ids": token, "position_ids": positions, "attention_mask": mask}
                self.model(**given, **{cache_name(): cache}, use_cache=True)
            return laps | ({"decode per token": watch.lap() / self.decode} if self.decode else {})
        finally:
            if reduction is not None:
                reduction.remove()
