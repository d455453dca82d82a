"""Measures each call of `generate`, dense and reduced alike, without touching the model."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import TYPE_CHECKING, Any

from framefusion.engine.model.cache_names import cache_of
from framefusion.inference.answer.answer import Stopwatch
from framefusion.inference.quantization.cache import generation_options
from framefusion.inference.quantization.memory import cache_bytes
from framefusion.models.placeholders import placeholder_ids

if TYPE_CHECKING:
    from framefusion.inference.quantization.precision import Precision
    from framefusion.inference.reduction import Reduction


@dataclass(frozen=True)
class CallMeasurement:
    """One call of `generate`.

    prompt_tokens: columns of the prompt. visual_tokens: per row. kept_fraction, cost: as in the report, 1.0 without a
    reduction. prefill_ms: from the call to the first token, vision tower included. elapsed_s: of the whole call.
    new_tokens: summed over the rows. kv_bytes: what the cache holds at the end, per row, scales included; of a
    simulated width, what it stands for.
    """

    prompt_tokens: int
    visual_tokens: float
    kept_fraction: float
    cost: float
    prefill_ms: float
    elapsed_s: float
    new_tokens: int
    kv_bytes: float


class Meter:
    """The measured calls of a run. precision: of the cache that every call gets, None for the model's own."""

    def __init__(self, reduction: Reduction | None, precision: Precision | None = None) -> None:
        self.reduction, self.precision = reduction, precision
        self.measurements: list[CallMeasurement] = []
        self.failures: list[Exception] = []

    def clear(self) -> None:
        self.measurements, self.failures = [], []

    def generate(self, model: Any, *args: Any, **inputs: Any) -> Any:
        """`model.generate`, measured. Errors are remembered too: some wrappers answer them with an empty string."""
        watch = Stopwatch(model.device)
        criteria = [*(inputs.pop("stopping_criteria", None) or ()), watch]
        whole = bool(inputs.pop("return_dict_in_generate", False))
        inputs |= generation_options(model, self.precision)
        seen = self.reduction.report.prompts if self.reduction else 0
        started = time.perf_counter()
        try:
            output = model.generate(*args, **inputs, stopping_criteria=criteria, return_dict_in_generate=True)
        except Exception as error:
            self.failures.append(error)
            raise
        ids = inputs["input_ids"] if "input_ids" in inputs else args[0]
        visual = sum(int((ids == token).sum()) for token in placeholder_ids(model.config)) / ids.shape[0]
        reduced = self.reduction is not None and self.reduction.report.prompts > seen
        report = self.reduction.report if self.reduction and reduced else None
        self.measurements.append(
            CallMeasurement(
                prompt_tokens=ids.shape[1],
                visual_tokens=visual,
                kept_fraction=report.kept_fraction if report else 1.0,
                cost=report.cost if report else 1.0,
                prefill_ms=(watch.times[0] - started) * 1e3,
                elapsed_s=time.perf_counter() - started,
                new_tokens=(output.sequences.shape[1] - ids.shape[1]) * ids.shape[0],
                kv_bytes=cache_bytes(cache_of(output)) / ids.shape[0],
            )
        )
        return output if whole else output.sequences


def summary(measurements: Sequence[CallMeasurement], weight_bytes: float, failures: int = 0) -> dict[str, float]:
    """Means over the calls that had visual tokens; of times also the median, which a slow first call spares.

    weight_bytes: of the whole model, as it is quantised.
    """
    visual = [call for call in measurements if call.visual_tokens]
    numbers: dict[str, float] = {"prompts": len(measurements), "failed": failures, "weight_bytes": weight_bytes}
    if visual:
        numbers |= {
            "prompt_tokens": fmean(call.prompt_tokens for call in visual),
            "kv_bytes": fmean(call.kv_bytes for call in visual),
            "kept_fraction": fmean(call.kept_fraction for call in visual),
            "cost": fmean(call.cost for call in visual),
            "visual_tokens": fmean(call.visual_tokens for call in visual),
            "prefill_ms": fmean(call.prefill_ms for call in visual),
            "prefill_ms_median": median(call.prefill_ms for call in visual),
            "ms_median": median(call.elapsed_s for call in visual) * 1e3,
        }
    return {f"framefusion_{name}": float(value) for name, value in numbers.items()}


class Measured:
    """A model whose `generate` goes through a meter; everything else is the model's own."""

    def __init__(self, model: Any, meter: Meter) -> None:
        self._model, self._meter = model, meter

    def generate(self, *args: Any, **inputs: Any) -> Any:
        return self._meter.generate(self._model, *args, **inputs)

    def __call__(self, *args: Any, **inputs: Any) -> Any:
        return self._model(*args, **inputs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)
