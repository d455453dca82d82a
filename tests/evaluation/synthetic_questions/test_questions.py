"""Questions: answers that follow from scenes put together by hand, and nothing asked where it is unclear."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from framefusion.evaluation.synthetic_questions import KINDS, chance, draw_scene, questions
from framefusion.evaluation.synthetic_questions.scene import Change, Digit, Flash, Scene, Thing

SCENES = [draw_scene(seed) for seed in range(400)]
RED = Thing("red", "circle", 9, (30.0, 20.0), (0.0, 2.0))
BLUE = Thing("blue", "square", 9, (80.0, 30.0), (0.6, 0.0))
GREEN = Thing("green", "circle", 9, (30.0, 90.0), appears=20)
PINK = Thing("pink", "ring", 9, (85.0, 85.0), appears=6)
CYAN = Thing("cyan", "cross", 9, (56.0, 56.0), appears=12)
SCENE = Scene(
    0,
    (RED, BLUE, GREEN, PINK, CYAN),
    change=None,
    digit=Digit(4, (56, 20), 3, 12),
    flash=Flash("yellow", 9, (56, 56)),
    pillar=None,
    look=0,
)


def answers(kind: str, scene: Scene = SCENE) -> dict[str, str]:
    return {question.text: question.answer for question in questions(scene, kind)}


def test_colour_is_asked_of_shapes_that_occur_once() -> None:
    assert answers("colour") == {
        "what colour is the square?": "blue",
        "what colour is the ring?": "pink",
        "what colour is the cross?": "cyan",
    }


def test_perception() -> None:
    assert answers("shape")["what shape is the cyan thing?"] == "cross"
    assert answers("count") == {"how many things are there?": "5"}
    assert answers("digit") == {"which digit was shown?": "4"}
    assert answers("needle") == {"which colour flashed?": "yellow"}


def test_motion_is_asked_of_things_that_move() -> None:
    assert answers("direction") == {
        "which way does the red thing move?": "right",
        "which way does the blue thing move?": "down",
    }
    assert answers("speed") == {"which is faster, red or blue?": "red", "which is faster, blue or red?": "red"}


def test_places_are_those_at_the_end() -> None:
    assert answers("position")["where is the red thing at the end?"] == "top right"
    assert "where is the cyan thing at the end?" not in answers("position")  # it is in the middle
    assert answers("relation")["is red left or right of blue at the end?"] == "right"
    assert answers("relation")["is blue left or right of red at the end?"] == "left"


def test_order_of_appearance() -> None:
    assert answers("order2")["which appeared first, green or pink?"] == "pink"
    assert set(answers("order3").values()) == {"pink cyan green"}
    assert answers("order3", replace(SCENE, things=(RED, GREEN, PINK))) == {}


def test_a_thing_that_changes_is_not_asked_about() -> None:
    changed = replace(SCENE, change=Change("colour", 15, 1, replace(BLUE, colour="white")))
    assert answers("change", changed) == {"what changed?": "colour"}
    for kind in ("colour", "shape", "direction", "speed", "position", "relation"):
        asked = answers(kind, changed)
        assert not any("blue" in text or "white" in text or "square" in text for text in asked)


def test_a_shape_that_a_thing_turns_into_is_no_longer_unique() -> None:
    changed = replace(SCENE, change=Change("shape", 15, 0, replace(RED, shape="cross")))
    assert "what colour is the cross?" not in answers("colour", changed)


def test_every_answer_is_one_of_its_choices() -> None:
    for scene in SCENES[:100]:
        for question in questions(scene):
            assert question.answer in question.choices
            assert len(set(question.choices)) == len(question.choices)


@pytest.mark.parametrize("kind", KINDS)
def test_no_answer_is_much_more_frequent_than_chance(kind: str) -> None:
    first = [questions(scene, kind)[:1] for scene in SCENES]
    asked = Counter(question.choices.index(question.answer) for found in first for question in found)
    total = sum(asked.values())
    assert total > 50
    if kind not in ("speed", "order2"):  # the first of two pairs with opposite answers is taken above
        assert max(asked.values()) / total < chance(kind) + 0.15
