"""A stage that acts before several layers and leaves fewer tokens each time, clip by clip."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import ClassVar

from framefusion.errors import OptionError
from framefusion.layout import PATCH
from framefusion.method import Point, Scope, Setting, Signals, Stream, before
from framefusion.ops.steps import Steps
from framefusion.plan import Plan
from framefusion.stage import decide_on_patches

DecideCount = Callable[[Signals, int], Plan]


@dataclass(frozen=True)
class Progress:
    """How far one prompt row has come.

    layers: before which it acts. totals: patches of each clip when the first step came, None until then.
    """

    layers: tuple[int, ...]
    totals: dict[int, int] | None = None


@dataclass(frozen=True)
class ProgressiveStage:
    """Acts at every layer of `steps`.

    decide: the plan for the patches of one clip, of which it is told how many to leave; not asked when all stay.
    """

    steps: Steps
    decide: DecideCount
    needs: frozenset[str] = frozenset({"attention"})

    stream: ClassVar[Stream] = "prompt"
    scope: ClassVar[Scope] = "visual"

    def points(self, layers: int) -> Iterable[Point]:
        return tuple(before(layer) for layer in self.steps.at(layers))

    def start(self, setting: Setting) -> Progress:
        layers = self.steps.at(setting.layers)
        if layers[-1] >= setting.layers:
            raise OptionError(
                f"this model has no layer {layers[-1]}", f"it has {setting.layers}", "choose earlier layers"
            )
        self.steps.counts(1, len(layers))
        return Progress(layers)

    def step(self, state: Progress, signals: Signals) -> tuple[Plan, Progress]:
        totals = _patches_of_clips(signals) if state.totals is None else state.totals
        number = state.layers.index(signals.point.layer)

        def decide(clip: Signals) -> Plan:
            count = self.steps.counts(totals[int(clip.geometry.clip[0])], len(state.layers))[number]
            if count >= len(clip):
                return Plan.identity(len(clip), clip.size.device)
            return self.decide(clip, count)

        return decide_on_patches(signals, decide, by_clip=True), Progress(state.layers, totals)


def _patches_of_clips(signals: Signals) -> dict[int, int]:
    patches = signals.geometry.clip[signals.geometry.kind == PATCH]
    clips, counts = patches.unique(return_counts=True)
    return dict(zip(clips.tolist(), counts.tolist(), strict=True))
