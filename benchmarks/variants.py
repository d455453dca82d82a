"""Dense, reduced and oracle, each as a function that runs one prompt and says how long its parts took."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import InitVar, dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor

import framefusion as ff
from benchmarks.inputs import Prompt
from benchmarks.oracle import Cut, Oracle, cuts_of
from benchmarks.timing import Laps, Watch
from framefusion.engine.model.cache_names import cache_name, cache_of
from framefusion.inference.quantization.memory import cache_bytes

DENSE, REDUCED, ORACLE = "dense", "reduced", "oracle"
VARIANTS = (DENSE, REDUCED, ORACLE)
ALL = "all"
"""Parts that are the same for every variant."""
DECIDING = "decision and application"
TOKEN = 11


@dataclass
class Trial:
    """One prompt in one model.

    cuts: of the oracle, taken from a reduced run where they are not `known`. facts: what the prefill of each variant
    left behind that is no time: tokens per layer, bytes, cost.
    """

    model: Any
    prompt: Prompt
    method: Any
    decode: int
    device: torch.device
    known: InitVar[list[Cut] | None] = None
    cuts: list[Cut] = field(init=False)
    facts: dict[str, dict[str, Any]] = field(default_factory=dict)

    def __post_init__(self, known: list[Cut] | None) -> None:
        self.cuts = self._decisions() if known is None else known
        self.oracle = Oracle(self.model, self.prompt.embeds, self.prompt.positions, self.cuts)

    def _decisions(self) -> list[Cut]:
        """Of one reduced run; the oracle takes them as given."""
        with ff.reduce(self.model, self.method, layout=self.prompt.layout) as reduction:
            cache = cache_of(self._forward())
        self.facts[REDUCED] = facts_of(cache, reduction.report)
        return cuts_of(reduction.report.decisions, self.prompt.length)

    def runs(self, decode: int | None = None) -> dict[str, Callable[[], Laps]]:
        """decode: tokens after the prompt, where not as many as the trial says."""
        tokens = self.decode if decode is None else decode
        return {
            DENSE: partial(self._stock, DENSE, tokens),
            REDUCED: partial(self._reduced, tokens),
            ORACLE: partial(self._limit, tokens),
        }

    def _reduced(self, decode: int) -> Laps:
        with ff.reduce(self.model, self.method, layout=self.prompt.layout), deciding(self.device) as spent:
            laps = self._stock(REDUCED, decode)
        return laps | {DECIDING: sum(spent)}

    def _stock(self, variant: str, decode: int) -> Laps:
        watch = Watch(self.device)
        cache = cache_of(self._forward())
        laps = {"prefill": watch.lap()}

        @torch.no_grad()
        def answer(token: Tensor, column: int) -> None:
            positions = torch.full((3, 1, 1), column, device=self.device)
            self.model(input_ids=token, position_ids=positions, **{cache_name(): cache}, use_cache=True)

        return laps | self._after(variant, cache, watch, decode, answer)

    def _limit(self, decode: int) -> Laps:
        watch = Watch(self.device)
        _, cache = self.oracle.prefill()
        laps = {"prefill": watch.lap()}
        return laps | self._after(ORACLE, cache, watch, decode, partial(self.oracle.decode, cache=cache))

    def _after(self, variant: str, cache: Any, watch: Watch, decode: int, answer: Callable[[Tensor, int], Any]) -> Laps:
        """What the prefill left behind, and the time of `decode` further tokens. answer: (token, prompt column)."""
        if variant not in self.facts:
            self.facts[variant] = facts_of(cache)
        if not decode:
            return {}
        token = torch.full((1, 1), TOKEN, device=self.device)
        watch.lap()
        for step in range(decode):
            answer(token, self.prompt.length + step)
        return {"decode per token": watch.lap() / decode}

    @torch.no_grad()
    def _forward(self) -> Any:
        return self.model(
            inputs_embeds=self.prompt.embeds,
            position_ids=self.prompt.positions,
            use_cache=True,
            logits_to_keep=1,
        )


def facts_of(cache: Any, report: Any = None) -> dict[str, Any]:
    """What a prefill left behind. report: of the reduction, if there was one."""
    facts = {"tokens_per_layer": [layer.keys.shape[-2] for layer in cache.layers], "kv_bytes": cache_bytes(cache)}
    if report is None:
        return facts
    return facts | {
        "mlp_tokens_per_layer": [layer.length_out for layer in report.layers],
        "measured_cost": round(report.cost, 4),
        "kept": round(report.kept_fraction, 4),
        "steps": [_in_words(decision) for decision in report.decisions],
    }


def _in_words(decision: Any) -> str:
    plan = decision.plan
    deed = "merges" if plan.merges else "prunes" if plan.kept < plan.count else "leaves"
    return f"{decision.point} {deed} {plan.count} to {plan.kept}"


@contextmanager
def deciding(device: torch.device) -> Iterator[list[float]]:
    """Milliseconds of every reduction point inside the block: the stages' decisions and what applies them."""
    from framefusion.engine.decoder.forward import Forward

    spent: list[float] = []
    advance = Forward._advance

    def timed(self: Forward, *args: Any) -> Any:
        # On a GPU the queue is not emptied here, which would slow the prefill down: this is the host's share there.
        started = time.perf_counter()
        try:
            return advance(self, *args)
        finally:
            spent.append((time.perf_counter() - started) * 1e3)

    Forward._advance = timed  # type: ignore[method-assign, assignment]
    try:
        yield spent
    finally:
        Forward._advance = advance  # type: ignore[method-assign]
