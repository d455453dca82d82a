"""A stage that asks for what there is none of where it acts is told so, in the package's own words."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
import torch

import framefusion as ff
from framefusion.core.errors import MissingSignalError
from framefusion.core.method import Method, MethodFacts, Signals, Stage, before
from framefusion.core.plan import Plan
from framefusion.core.stage import DecoderStage, ProjectorStage, VisionStage
from tests.support.tiny import build_model, moving_clip, prompt

FACTS = MethodFacts("asks", "Asks", "", "asks for one signal", "anywhere", False, "geometry", False, identity={})
ASKED: dict[str, Callable[[Signals], Any]] = {
    "text": lambda signals: signals.text(),
    "asks": lambda signals: signals.asks(),
    "attention": lambda signals: signals.attention(1),
    "text_attention": lambda signals: signals.text_attention(),
    "keys": lambda signals: signals.keys(),
    "text_keys": lambda signals: signals.text_keys(),
    "vision": lambda signals: signals.vision(),
}
# What each place has all the same, for a stage that declares nothing beyond it.
STAGES: dict[str, tuple[Callable[[Any], Stage], set[str]]] = {
    "tower": (VisionStage, {"keys"}),
    "projector": (ProjectorStage, {"vision"}),
    "prompt": (lambda decide: DecoderStage(before(0), decide), {"text", "asks"}),
    "layer": (lambda decide: DecoderStage(before(2), decide), {"text", "asks"}),
}


@dataclass(frozen=True)
class Asks(Method):
    """Asks for one signal at one place."""

    signal: str
    place: str
    facts: ClassVar[MethodFacts] = FACTS

    def stages(self) -> tuple[Stage, ...]:
        return (STAGES[self.place][0](self.decide),)

    def decide(self, signals: Signals, *_: int) -> Plan:
        ASKED[self.signal](signals)
        return Plan.identity(len(signals))


def run(method: Method) -> None:
    rows = [[("image", moving_clip(1)[0]), ("text", "what?")]]
    model = build_model("llava")
    with torch.no_grad(), ff.reduce(model, method):
        model(**prompt("llava", rows))


@pytest.mark.parametrize("place", STAGES)
@pytest.mark.parametrize("signal", ASKED)
def test_it_is_told(signal: str, place: str) -> None:
    if signal in STAGES[place][1]:
        run(Asks(signal, place))
        return
    with pytest.raises(MissingSignalError) as caught:
        run(Asks(signal, place))
    assert caught.value.why


def test_another_stage_that_reads_attention_does_not_make_it_readable() -> None:
    """What a stage may read does not depend on what it is chained with."""
    with pytest.raises(MissingSignalError, match="not observed"):
        run(ff.Chain(ff.FastV(layer=2), Asks("attention", "layer")))
