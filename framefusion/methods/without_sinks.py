"""WithoutSinks: any method that goes by attention, with less of it for places that are attended to all the time.

Paper: SToP, Sink-Token-aware Pruning, https://arxiv.org/abs/2604.20937.

Differs from the published code: the weight is in units of the clip's highest attention (there, a number for each method
and model); it is the attention that changes, so every method that reads it follows (there, three methods do); a method
that merges along time does so by its own rule (there, HoliTom's threshold is lowered for sinks too).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any

from framefusion.core.errors import OptionError
from framefusion.core.method import Method, Signals, Stage, VisionSignals
from framefusion.core.ops.sinks import without_sinks
from framefusion.core.options import Interval

if TYPE_CHECKING:
    from framefusion.core.adapter import Adapter
    from framefusion.core.model_shape import ModelShape
    from framefusion.core.plan import Plan
    from framefusion.models.family import Family

Weight = Annotated[float, Interval("[0, 10]")]
ATTENTION = frozenset({"attention", "vision"})


@dataclass(frozen=True)
class WithoutSinks(Method):
    """A method whose scores by attention are lowered where a place draws attention in every frame of a clip.

    Args:
        method: that reads the attention of the last words or of the vision tower, a `Chain` of methods too.
        weight: how much a place that is attended to most over all frames loses, in units of the highest attention of
            its clip, [0, 10]; 0 changes nothing. Pictures have no frames to tell sinks by and stay as they are.

    Raises:
        OptionError: a value that its option does not take, or a method that reads no such attention.

    Example:
        >>> method = ff.WithoutSinks(ff.FastV(keep=0.5, layer=2), weight=0.5)
        >>> with ff.reduce(model, method) as reduction:
        ...     answer = model.generate(**inputs, max_new_tokens=2)
        >>> reduction.report.visual_tokens, reduction.report.kept_tokens
        (512, 256)
    """

    method: Method
    weight: Weight = 0.5

    def check_options(self) -> None:
        if not self.method.needs() & ATTENTION:
            raise OptionError(
                f"{self.method.facts.title} has no sinks to leave out",
                "it reads neither the attention of the last words nor that of the vision tower",
                "choose a method that does, such as FastV, FastVID or VisionZip",
            )
        facts = self.method.facts
        object.__setattr__(self, "facts", replace(facts, title=f"{facts.title} without sinks"))

    def stages(self) -> tuple[Stage, ...]:
        stages = self.method.stages()
        return tuple(_Lowered(stage, self.weight) if stage.needs & ATTENTION else stage for stage in stages)

    def options(self) -> dict[str, Any]:
        return {"method": self.method.options(), "weight": self.weight}

    def adapters(self) -> tuple[Adapter, ...]:
        return self.method.adapters()

    def stage_names(self) -> tuple[str, ...]:
        return self.method.stage_names()

    @property
    def weighs(self) -> bool:
        return self.method.weighs

    def with_weight(self, weighs: bool) -> WithoutSinks:
        return replace(self, method=self.method.with_weight(weighs))

    def with_budget(self, value: float) -> WithoutSinks:
        return replace(self, method=self.method.with_budget(value))

    def for_family(self, family: Family) -> WithoutSinks:
        return replace(self, method=self.method.for_family(family))

    def check_model(self, shape: ModelShape) -> None:
        self.method.check_model(shape)

    def notes(self, family: Family) -> list[str]:
        return self.method.notes(family)


class _Lowered:
    """A stage that sees lowered attention. It acts on the prompt, where all frames of a clip can be compared."""

    def __init__(self, stage: Stage, weight: float) -> None:
        self._stage, self._weight = stage, weight

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stage, name)

    def step(self, state: Any, signals: Signals) -> tuple[Plan | None, Any]:
        return self._stage.step(state, lowered(signals, self._weight))


def lowered(signals: Signals, weight: float) -> Signals:
    """The signals with less attention where a place draws it all the time."""

    def vision() -> VisionSignals:
        seen = signals.vision()
        return replace(
            seen,
            saliency=lambda layer, headless: without_sinks(seen.saliency(layer, headless), signals.geometry, weight),
        )

    return replace(
        signals,
        attention=lambda rows: without_sinks(signals.attention(rows), signals.geometry, weight),
        vision=vision,
    )
