"""What stages are called, and that what a method needs follows from them."""

from __future__ import annotations

import pytest

from framefusion.core import stage
from framefusion.core.method import MethodFacts
from framefusion.core.registry import describe, methods


@pytest.mark.parametrize(
    ("former", "now"), [("Once", "DecoderStage"), ("PerPicture", "ProjectorStage"), ("InTower", "VisionStage")]
)
def test_a_former_name_works_and_says_what_it_is_called_now(former: str, now: str) -> None:
    with pytest.warns(DeprecationWarning, match=now):
        assert getattr(stage, former) is getattr(stage, now)


def test_a_name_that_is_no_stage_is_told() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Twice'"):
        _ = stage.Twice


@pytest.mark.parametrize("name", list(methods))
def test_what_is_listed_as_needed_is_what_the_stages_ask_for(name: str) -> None:
    asked = {need for part in methods.load(name)().stages() for need in part.needs}
    assert set(describe(name)["needs"]) == asked


def test_facts_that_repeat_what_the_stages_need_still_work() -> None:
    with pytest.warns(DeprecationWarning, match="stages"):
        facts = MethodFacts("x", "X", "", "does x", "before layer 0", False, "data", False, needs=("hidden",))
    assert facts.identity == {"keep": 1.0}
