"""How long a method thinks: milliseconds in its own code, without the model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING, Any

from framefusion.core.method import Method, Signals, Stage
from framefusion.evaluation.prefill import prefill
from framefusion.inference.reduction import reduce_clips

if TYPE_CHECKING:
    from torch import nn

    from framefusion.models.family import Family

# The first prompt warms up, the median is that of the others.
WARM_UP = 1


def decision_ms(model: nn.Module, method: Method, prompts: Sequence[Mapping[str, Any]]) -> float:
    """Median milliseconds per prompt that the stages of `method` take to decide, scores they ask for included.

    What is done with the decision, and what the vision tower or the layers compute anyway, is not in it.
    """
    clock = _Clock(model.device)
    with reduce_clips(model, Clocked(method, clock)):
        for prompt in prompts:
            clock.begin()
            prefill(model, prompt)
    return 1000 * median(clock.seconds[WARM_UP:] or clock.seconds)


class _Clock:
    """Seconds spent inside `timed` functions, per prompt."""

    def __init__(self, device: Any) -> None:
        self.device = device
        self.seconds: list[float] = []

    def begin(self) -> None:
        self.seconds.append(0.0)

    def timed(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            self._wait()
            start = perf_counter()
            found = function(*args)
            self._wait()
            self.seconds[-1] += perf_counter() - start
            return found

        return call

    def _wait(self) -> None:
        if self.device.type == "cuda":
            import torch

            torch.cuda.synchronize(self.device)


class _ClockedStage:
    """A stage whose `step` is timed; everything else is its own."""

    def __init__(self, stage: Stage, clock: _Clock) -> None:
        self._stage, self._step = stage, clock.timed(stage.step)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stage, name)

    def step(self, state: Any, signals: Signals) -> Any:
        return self._step(state, signals)


class Clocked(Method):
    """`method`, its decisions timed by `clock`."""

    def __init__(self, method: Method, clock: _Clock) -> None:
        self.method, self.clock = method, clock

    @property
    def facts(self) -> Any:  # type: ignore[override]
        return self.method.facts

    @property
    def weighs(self) -> bool:
        return self.method.weighs

    def options(self) -> dict[str, Any]:
        return self.method.options()

    def for_family(self, family: Family) -> Method:
        return Clocked(self.method.for_family(family), self.clock)

    def notes(self, family: Family) -> list[str]:
        return self.method.notes(family)

    def stage_names(self) -> tuple[str, ...]:
        return self.method.stage_names()

    def stages(self) -> tuple[Stage, ...]:
        return tuple(map(self._clocked, self.method.stages()))

    def _clocked(self, stage: Any) -> Any:
        """Stages that decide by a function are timed there, because some act in front of the decoder as well."""
        if "decide" in getattr(stage, "__dataclass_fields__", ()):
            return replace(stage, decide=self.clock.timed(stage.decide))
        return _ClockedStage(stage, self.clock)
