"""Accuracy against the age of what is asked, and paired comparisons of policies with controls."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median

from framefusion.evaluation.long_streams.measure import CONTROLS, Answered
from framefusion.evaluation.paired import Interval, Paired, paired, proportion

AGES = {"just now": 10.0, "a minute": 120.0, "ten minutes": 900.0, "long ago": float("inf")}
"""Seconds up to which what is asked about is that old."""


@dataclass(frozen=True)
class Group:
    """One arm at one age. seconds: the median age. ahead: of each control that answered the same questions."""

    arm: str
    age: str
    seconds: float
    count: int
    accuracy: Interval
    ahead: dict[str, Paired]


def age_of(seconds: float) -> str:
    """The name of an age."""
    return next(name for name, most in AGES.items() if seconds <= most)


def by_age(answers: Iterable[Answered]) -> list[Group]:
    """One group for each arm and age that has answers, ages from young to old."""
    found: dict[tuple[str, str], dict[tuple[object, ...], Answered]] = {}
    for answer in answers:
        question = answer.question
        key = (question.stream, question.at, question.text)
        found.setdefault((age_of(question.age), answer.arm), {})[key] = answer
    order = list(AGES)
    groups = []
    for (age, arm), own in sorted(found.items(), key=lambda item: order.index(item[0][0])):
        ahead = {
            control: _compared(own, found[age, control])
            for control in CONTROLS
            if control != arm and own.keys() & found.get((age, control), {}).keys()
        }
        seconds = median(answer.question.age for answer in own.values())
        groups.append(Group(arm, age, seconds, len(own), proportion([one.correct for one in own.values()]), ahead))
    return groups


def _compared(own: dict[tuple[object, ...], Answered], control: dict[tuple[object, ...], Answered]) -> Paired:
    keys = [key for key in own if key in control]
    return paired(
        [own[key].correct for key in keys],
        [control[key].correct for key in keys],
        [own[key].question.kind for key in keys],
    )
