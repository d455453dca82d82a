"""Dense, reduced and oracle, each as a function that runs one prompt and says how long its parts took."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

import framefusion as ff
from benchmarks.inputs import Prompt
from benchmarks.oracle import Oracle, cuts_of
from benchmarks.timing import Laps, Watch

DENSE, REDUCED, ORACLE = "dense", "reduced", "oracle"
VARIANTS = (DENSE, REDUCED, ORACLE)
ALL = "all"
"""Parts that are the same for every variant."""
TOKEN = 11


@dataclass
class Trial:
    """One prompt in one model. facts: what a run left behind that is no time: tokens per layer, bytes, cost."""

    model: Any
    prompt: Prompt
    method: Any
    decode: int
    device: torch.device
    facts: dict[str, dict[str, Any]] = field(default_factory=dict)
    oracle: Oracle | None = None

    def __post_init__(self) -> None:
        self.prepare()

    def prepare(self) -> None:
        """One reduced run, whose decisions the oracle takes as given."""
        with ff.reduce(self.model, self.method, layout=self.prompt.layout) as reduction:
            cache = self._forward().past_key_values
        report = reduction.report
        self.facts[REDUCED] = {
            "tokens_per_layer": [layer.length_in for layer in report.layers],
            "mlp_tokens_per_layer": [layer.length_out for layer in report.layers],
            "kv_bytes": stored_bytes(cache),
            "measured_cost": round(report.cost, 4),
            "kept": round(report.kept_fraction, 4),
            "steps": [_in_words(decision) for decision in report.decisions],
        }
        self.oracle = Oracle(
            self.model, self.prompt.embeds, self.prompt.positions, cuts_of(report.decisions, self.prompt.length)
        )

    def runs(self) -> dict[str, Callable[[], Laps]]:
        return {DENSE: self.dense, REDUCED: self.reduced, ORACLE: self.limit}

    def dense(self) -> Laps:
        return self._stock(DENSE)

    def reduced(self) -> Laps:
        with ff.reduce(self.model, self.method, layout=self.prompt.layout), deciding(self.device) as spent:
            laps = self._stock(REDUCED)
        return laps | {"decision and application": sum(spent)}

    def _stock(self, variant: str) -> Laps:
        watch = Watch(self.device)
        output = self._forward()
        laps, cache = {"prefill": watch.lap()}, output.past_key_values
        self._note(variant, cache, output.logits)
        token = torch.full((1, 1), TOKEN, device=self.device)
        for step in range(self.decode):
            if not step:
                watch.lap()
            positions = torch.full((3, 1, 1), self.prompt.length + step, device=self.device)
            with torch.no_grad():
                self.model(input_ids=token, position_ids=positions, past_key_values=cache, use_cache=True)
        return laps | self._per_token(watch)

    def limit(self) -> Laps:
        assert self.oracle is not None
        watch = Watch(self.device)
        logits, cache = self.oracle.prefill()
        laps = {"prefill": watch.lap()}
        self._note(ORACLE, cache, logits)
        token = torch.full((1, 1), TOKEN, device=self.device)
        for step in range(self.decode):
            if not step:
                watch.lap()
            self.oracle.decode(token, self.prompt.length + step, cache)
        return laps | self._per_token(watch)

    def _per_token(self, watch: Watch) -> Laps:
        return {"decode per token": watch.lap() / self.decode} if self.decode else {}

    @torch.no_grad()
    def _forward(self) -> Any:
        return self.model(
            inputs_embeds=self.prompt.embeds,
            position_ids=self.prompt.positions,
            use_cache=True,
            logits_to_keep=1,
        )

    def _note(self, variant: str, cache: Any, logits: Tensor) -> None:
        if variant in self.facts:
            return
        lengths = [layer.keys.shape[-2] for layer in cache.layers]
        self.facts[variant] = {"tokens_per_layer": lengths, "kv_bytes": stored_bytes(cache)}


def _in_words(decision: Any) -> str:
    plan = decision.plan
    deed = "merges" if plan.merges else "prunes" if plan.kept < plan.count else "leaves"
    return f"{decision.point} {deed} {plan.count} to {plan.kept}"


def stored_bytes(cache: Any) -> int:
    """Keys and values a cache holds."""
    return sum(
        tensor.numel() * tensor.element_size() for layer in cache.layers for tensor in (layer.keys, layer.values)
    )


@contextmanager
def deciding(device: torch.device) -> Iterator[list[float]]:
    """Milliseconds of every reduction point inside the block: the stages' decisions and what applies them."""
    from framefusion.intercept.call import Call

    spent: list[float] = []
    advance = Call._advance

    def timed(self: Call, *args: Any) -> Any:
        # On a GPU the queue is not emptied here, which would slow the prefill down: this is the host's share there.
        started = time.perf_counter()
        try:
            return advance(self, *args)
        finally:
            spent.append((time.perf_counter() - started) * 1e3)

    Call._advance = timed  # type: ignore[method-assign, assignment]
    try:
        yield spent
    finally:
        Call._advance = advance  # type: ignore[method-assign]
