"""Answers as part of rows: written line by line, and put together again from the rows of several streams."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from framefusion.evaluation.long_streams.accuracy import Group, age_of, by_age
from framefusion.evaluation.long_streams.measure import Answered
from framefusion.evaluation.long_streams.questions import LongQuestion

if TYPE_CHECKING:
    from benchmarks.rows import Row


def grouped(answers: Sequence[Answered]) -> list[tuple[Group, list[Answered]]]:
    """Groups by arm and age, each with its answers."""
    found: dict[tuple[str, str], list[Answered]] = {}
    for answer in answers:
        found.setdefault((answer.arm, age_of(answer.question.age)), []).append(answer)
    return [(group, found[group.arm, group.age]) for group in by_age(answers)]


def figures(group: Group) -> dict[str, Any]:
    """What a row says of a group. ahead_of: by control, the difference in points with the ends of its interval."""
    accuracy = group.accuracy
    return {
        "age_s": round(group.seconds, 1),
        "questions": group.count,
        "accuracy": round(accuracy.value, 4),
        "accuracy_low": round(accuracy.low, 4),
        "accuracy_high": round(accuracy.high, 4),
        "ahead_of": {name: points(paired.difference) for name, paired in group.ahead.items()},
    }


def points(difference: Any) -> list[float]:
    """Difference of accuracies in points, with the ends of its interval."""
    return [round(100 * value, 1) for value in (difference.value, difference.low, difference.high)]


def line_of(answer: Answered) -> list[Any]:
    """Frames shown when it was asked, end of what it is about, kind, question, what was said, whether that is right."""
    question = answer.question
    return [question.at, question.about, question.kind, question.text, answer.text, answer.correct]


def answers_of(rows: Iterable[Row]) -> list[Answered]:
    """All answers that rows of accuracy hold."""
    return [
        Answered(LongQuestion(row["seed"], kind, at, about, text, "", ()), row["policy"], said, right)
        for row in rows
        for at, about, kind, text, said, right in row.get("answers") or []
    ]
