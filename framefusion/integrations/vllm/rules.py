"""The methods an engine can serve: their count follows from sizes, and they decide in front of the language model.

The decisions are the library's own; a rule says how many tokens a decision keeps before there is anything to decide.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

import torch

from framefusion.core.errors import OptionError
from framefusion.core.method import PROPORTIONAL, Setting
from framefusion.core.ops.budget import kept_count
from framefusion.core.options import Interval, Keep, checked
from framefusion.core.plan import Plan

if TYPE_CHECKING:
    from framefusion.core.method import Method, Signals

    Decide = Callable[[Signals], Plan]


@dataclass(frozen=True)
class Rule:
    """How one method counts and decides.

    needs_first_frame: tokens join or are compared with the frame before, so the first frame always stays.
    per_frame: the budget is one of each frame. rounding: of a fraction, as the method has it.
    tower: it needs attention scores of the vision tower. before_tower: it decides from pixels what the tower encodes.
    within: it decides from the pixels of one picture which of its tokens repeat others. fixed: options that have one
    value here.
    """

    name: str
    needs_first_frame: bool = False
    per_frame: bool = False
    rounding: Callable[[float], float] = round
    tower: bool = False
    before_tower: bool = False
    within: bool = False
    fixed: Mapping[str, Any] = field(default_factory=dict)

    @property
    def takes_pictures(self) -> bool:
        """Whether there is something to decide where nothing comes before."""
        return not self.needs_first_frame

    def count(self, keep: Keep, frames: int, per_frame: int) -> int:
        """Patches kept of `frames` x `per_frame`."""
        if self.per_frame:
            return frames * kept_count(keep, per_frame, self.rounding)
        wanted = kept_count(keep, frames * per_frame, self.rounding)
        return max(per_frame, wanted) if self.needs_first_frame else wanted

    def count_from_pixels(self, changed: int, frames: int, per_frame: int) -> int:
        """The same where the first frame and `changed` tokens behind it are encoded."""
        if self.per_frame:
            return frames * max(1, min(per_frame, round((per_frame + changed) / frames)))
        return min(frames * per_frame, per_frame + changed)

    def decider(self, keep: Keep, options: Mapping[str, Any]) -> Decide:
        """The decision that keeps `keep` tokens of a clip or of each of its frames. Raises OptionError."""
        if self.name == "framefusion":
            return _similarity_stage(keep, options)
        if self.within:
            return _those_that_repeat_none
        (stage,) = self._method(keep, options).stages()

        def decide(signals: Signals) -> Plan:
            plan, _ = stage.step(stage.start(Setting(1, signals.geometry)), signals)
            assert plan is not None
            return plan

        return decide

    def checked(self, keep: Keep, options: Mapping[str, Any]) -> dict[str, Any]:
        """`options` as plain values, checked by the method's own declaration. Raises OptionError."""
        if self.name == "framefusion":
            _similarity_stage(keep, options)
            return {}
        if self.within:
            return {"threshold": threshold_of(options)}
        method = self._method(keep, options)
        return {name: value for name, value in method.options().items() if name in options}

    def _method(self, keep: Keep, options: Mapping[str, Any]) -> Method:
        from framefusion.core.registry import configure

        inside = sorted({"layer", "strict", PROPORTIONAL, *self.fixed} & set(options))
        if inside:
            raise OptionError(f"the option `{inside[0]}` of `{self.name}` has no place in a serving engine")
        # The engine's kernels take no weights: what merged counts as one token.
        return configure(self.name, {**options, **self.fixed, "keep": keep}).with_weight(False)


def _similarity_stage(keep: Keep, options: Mapping[str, Any]) -> Decide:
    """FrameFusion's merging, with the share of tokens that join fixed instead of their similarity."""
    if options:
        raise OptionError(
            f"FrameFusion has no option `{min(options)}` in a serving engine",
            "only its merging stage acts in front of the language model, on a fixed share of the tokens",
            "give `keep`, and `pixel_change` with keep='pixels'",
        )
    keep = checked("keep", Keep, keep)

    def merge(signals: Signals) -> Plan:
        from framefusion.core.temporal_pairs import pairs_along_time

        pairs = pairs_along_time(signals)
        return pairs.plan(pairs.most_similar(len(signals) - kept_count(keep, len(signals))))

    def decide(signals: Signals) -> Plan:
        from framefusion.core.stage import decide_on_patches

        return decide_on_patches(signals, merge, by_clip=True)

    return decide


def threshold_of(options: Mapping[str, Any]) -> float:
    """Of a method that decides within a picture. Raises OptionError."""
    for name in options:
        if name != "threshold":
            raise OptionError(f"the method `pixel_prune` has no option `{name}`", hint="it has: threshold")
    return checked("threshold", Annotated[float, Interval("[0, 1]")], options.get("threshold", 0.0))


def _those_that_repeat_none(signals: Signals) -> Plan:
    own = signals.repeats() == torch.arange(len(signals), device=signals.size.device)
    return Plan.select(own.nonzero().flatten(), len(signals))


RULES = {
    rule.name: rule
    for rule in (
        Rule("framefusion", needs_first_frame=True),
        Rule("evs", needs_first_frame=True, rounding=int),
        Rule("uniform"),
        Rule("temporal_ward"),
        Rule("divprune"),
        # The decision holds for every question about the same pictures, because prompts share what is cached of them.
        Rule("cdpruner", fixed={"theta": 0.0}),
        Rule("prumerge", per_frame=True),
        Rule("visionzip", per_frame=True, tower=True),
        Rule(
            "pixel_dedup",
            needs_first_frame=True,
            before_tower=True,
            fixed={"mode": "merge", "reuse": True, "blend": False},
        ),
        Rule("pixel_prune", within=True),
    )
}

OF_PICTURES = tuple(name for name, rule in RULES.items() if rule.takes_pictures)
"""Methods that reduce a picture."""
OF_VIDEOS = tuple(name for name, rule in RULES.items() if not rule.within)
"""Methods that reduce a video."""
