"""The long yardstick: its world, its film, its questions, and what is made of answers."""

from __future__ import annotations

import sys
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest

from framefusion.core.errors import OptionError
from framefusion.evaluation.long_streams import (
    CONTROLS,
    EVEN,
    FPS,
    FRESH,
    HOUR,
    LAST,
    VISIT,
    Answered,
    LongQuestion,
    Setting,
    by_age,
    draw_world,
    film,
    measure,
    questions,
)
from framefusion.evaluation.synthetic_questions.scene import COLOURS, SIDE

LENGTHS = (24, 100, 1000, HOUR, 20 * HOUR)


@pytest.mark.parametrize("frames", LENGTHS)
@pytest.mark.parametrize("seed", range(3))
def test_visits_follow_each_other_to_the_end_of_the_stream(frames, seed):
    world = draw_world(seed, frames)
    visits = world.visits
    assert visits[-1].end == frames and visits[0].first > 0
    assert all(one.end < other.first for one, other in pairwise(visits))
    assert len({visit.thing.colour for visit in visits}) == len(visits) == min(len(COLOURS), frames // 24)
    assert sum(visit.digit is not None for visit in visits) == 1
    assert sum(visit.flash is not None for visit in visits) == min(1, len(visits) - 1)
    for visit in visits:
        assert all(0 < place < SIDE for frame in range(VISIT) for place in visit.thing.at(frame))
        assert visit.thing.direction is not None


def test_worlds_differ_by_seed_and_are_the_same_for_the_same():
    assert draw_world(1, 500) == draw_world(1, 500) != draw_world(2, 500)


@pytest.mark.parametrize("options", [{"seed": -1}, {"seed": 0, "frames": 23}, {"seed": 0, "frames": 7200.5}])
def test_what_makes_no_world_is_refused(options):
    with pytest.raises(OptionError):
        draw_world(**options)


def test_any_frame_can_be_filmed_alone():
    world = draw_world(3, 120)
    whole = np.stack(list(film(world)))
    assert whole.shape == (120, SIDE, SIDE, 3) and whole.dtype == np.uint8
    some = [117, 3, 60]
    assert np.array_equal(np.stack(list(film(world, some))), whole[some])


def test_a_visitor_is_seen_while_it_is_there_and_only_then():
    world = draw_world(0, 400)
    visit = max(world.visits, key=lambda visit: visit.thing.colour == "white")
    colour = np.array(COLOURS[visit.thing.colour])

    def pixels(frame):
        return int((abs(next(film(world, [frame])).astype(int) - colour).max(-1) < 45).sum())

    before, during, after = pixels(visit.first - 1), pixels(visit.first + 2), pixels(min(visit.end, 399))
    assert during > 60 + before
    assert visit.end == 400 or during > 60 + after


@pytest.mark.parametrize("seed", range(3))
def test_questions_are_about_what_was_shown_and_have_one_answer(seed):
    world = draw_world(seed)
    asked = questions(world)
    assert [question.at for question in asked] == sorted(question.at for question in asked)
    assert {question.kind for question in asked} == {"shape", "direction", "digit", "needle", "order2"}
    for question in asked:
        assert question.answer in question.choices and question.age == (question.at - question.about) / FPS >= 0
        assert question.at in {visit.end for visit in world.visits} >= {question.about}
    assert max(Counter((question.at, question.text) for question in asked).values()) == 1
    first = {visit.thing.colour: visit.first for visit in world.visits}
    for question in asked:
        if question.kind == "order2":
            assert question.answer == min(question.choices, key=first.__getitem__)


def test_ages_reach_from_just_now_to_the_beginning():
    ages = [question.age for seed in range(8) for question in questions(draw_world(seed))]
    found = np.histogram(ages, [0, 10, 120, 900, 3600])[0] / len(ages)
    assert min(found) > 0.05


def answered(arm, correct, age, number):
    question = LongQuestion(0, "shape", 1000, round(1000 - age * FPS), f"question {number}", "ring", ("ring", "cross"))
    return Answered(question, arm, "", correct)


def test_arms_are_compared_on_the_questions_that_both_answered():
    answers = [answered("infinipot", number < 9, 400, number) for number in range(10)]
    answers += [answered(EVEN, number < 3, 400, number) for number in range(10)]
    answers += [answered(LAST, False, 400, number) for number in range(10)]
    answers += [answered(arm, True, 0, 99) for arm in ("infinipot", FRESH)]
    groups = {(group.arm, group.age): group for group in by_age(answers)}
    assert next(group.age for group in by_age(answers)) == "just now"
    old = groups["infinipot", "ten minutes"]
    assert (old.seconds, old.count, old.accuracy.value) == (400, 10, 0.9)
    assert set(old.ahead) == {EVEN, LAST}
    assert old.ahead[EVEN].difference.value == pytest.approx(0.6) and old.ahead[EVEN].wins == 6
    assert groups["infinipot", "just now"].ahead[FRESH].difference.value == 0
    assert set(groups[EVEN, "ten minutes"].ahead) == {LAST}


def test_arms_that_answered_other_questions_are_not_compared():
    groups = by_age([answered("infinipot", True, 0, 1), answered(FRESH, True, 0, 2)])
    assert [group.ahead for group in groups] == [{}, {}]


@pytest.mark.slow
def test_the_embedded_model_remembers_what_its_memory_holds():
    import framefusion as ff

    checkpoint, world = ff.load_checkpoint("framefusion/tiny", device="cpu"), draw_world(5, 56)
    answers = list(measure(checkpoint, world, ["window"], Setting(memory=272, window=8)))
    by_arm = {arm: [one for one in answers if one.arm == arm] for arm in ("window", *CONTROLS)}
    for arm in ("window", LAST, EVEN):
        assert [one.question for one in by_arm[arm]] == questions(world)
    now = {arm: [one.correct for one in found if one.question.age == 0] for arm, found in by_arm.items()}
    assert len(now[FRESH]) == len(now[LAST]) > 3
    assert np.mean(now[FRESH]) >= 0.75 and np.mean(now[LAST]) >= 0.75


@pytest.mark.slow
def test_a_memory_that_chooses_answers_about_what_has_left_the_window(monkeypatch):
    import framefusion as ff
    from framefusion.inference.stream.policies import policy_of

    def at_the_end(world):
        return [one for one in questions(world) if one.at == world.frames and one.kind != "order2"]

    # Short of the yardstick: a stream of 240 frames, and questions at its end alone.
    monkeypatch.setattr(sys.modules[measure.__module__], "questions", at_the_end)
    checkpoint, world, setting = ff.load_checkpoint("framefusion/tiny", device="cpu"), draw_world(11, 240), Setting()
    policy = policy_of("infinipot")
    right = {(arm, left): 0 for arm in ("infinipot", *CONTROLS) for left in (True, False)}
    for answer in measure(checkpoint, world, [policy], setting):
        left = answer.question.about <= world.frames - setting.frames
        right[answer.arm, left] += answer.correct
    # 11 questions are about what is no longer among the last frames, 5 about what is.
    assert right["infinipot", True] >= right[LAST, True] + 4
    assert right["infinipot", True] >= right[EVEN, True]
    assert right["infinipot", False] >= right[LAST, False] - 1 >= 3
