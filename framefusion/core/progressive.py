"""A stage that acts before several layers and leaves fewer tokens each time, clip by clip."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

from framefusion.core.errors import OptionError
from framefusion.core.layout import PATCH
from framefusion.core.method import Point, Scope, Setting, Signals, Stream, before
from framefusion.core.ops.budget import kept_count
from framefusion.core.options import Keep, shown
from framefusion.core.plan import Plan
from framefusion.core.stage import decide_on_patches

Rounding = Callable[[float], float]


@dataclass(frozen=True)
class Steps:
    """Layers before which a method acts, and what it leaves there. Values are those of a method's checked options.

    keep: what is left after the last step, as a fraction or a number; the steps before it are equal factors.
    layers: ascending decoder layers; None scales `published`, given for a decoder of `depth` layers, to the model.
    shares: fraction of the first count that is left after each step, in place of equal factors.
    first: earliest layer at which the method can act, where `published` is scaled.
    """

    keep: Keep
    layers: Sequence[int] | None
    published: tuple[int, ...]
    depth: int
    shares: Sequence[float] | None = None
    rounding: Rounding = round
    first: int = 1

    def __post_init__(self) -> None:
        if self.layers is not None and any(b <= a for a, b in pairwise(self.layers)):
            raise OptionError(f"layers must ascend, got {shown(self.layers)}")
        if self.shares is not None:
            if any(b > a for a, b in pairwise(self.shares)):
                raise OptionError(f"shares must never grow, got {shown(self.shares)}")
            if self.layers is not None and len(self.shares) != len(self.layers):
                raise OptionError(f"{len(self.shares)} shares do not fit {len(self.layers)} layers")

    def at(self, layers: int) -> tuple[int, ...]:
        """The steps' layers in a decoder of `layers` layers; a shallow one may have fewer than were published."""
        if self.layers is not None:
            return tuple(self.layers)
        scaled = (round(layer * layers / self.depth) for layer in self.published)
        return tuple(sorted({max(self.first, min(layers - 1, layer)) for layer in scaled}))

    def counts(self, total: int, steps: int) -> list[int]:
        """Tokens left of `total` after each of `steps` steps, never more than before and at least 1."""
        if self.shares is not None:
            if len(self.shares) != steps:
                raise OptionError(
                    f"{len(self.shares)} shares do not fit the {steps} layers this model has room for",
                    hint="name the layers too",
                )
            return [kept_count(share, total, self.rounding) for share in self.shares]
        last = kept_count(self.keep, total, self.rounding)
        share = self.keep if isinstance(self.keep, float) else last / total
        early = [kept_count(share ** (step / steps), total, self.rounding) for step in range(1, steps)]
        return [max(last, count) for count in early] + [last]


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
