"""Rows without a model: what the tests of the result's files and of the job are made of."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from framefusion.core.errors import BrokenVideoError
from framefusion.inference.batch import Job, Row, Task
from framefusion.inference.batch.rows import failed

JOB = Job(model="toy", frames=4)
SETTINGS = json.dumps(JOB.settings(), sort_keys=True)


def row(path: str, question: str = "what?", answer: str = "a “word”\nand more") -> Row:
    return Row(path, question, answer=answer, frames=4, cost=0.3, damaged=False, settings=SETTINGS)


def bad(path: str, question: str = "what?") -> Row:
    return failed(path, question, BrokenVideoError(f"{path} cannot be read", "it is noise", "look at it"), SETTINGS)


class Scripted:
    """An engine that answers at once; paths in `broken` are bad videos. asked: what it was given."""

    def __init__(self, *broken: str) -> None:
        self.broken, self.asked = broken, []

    def __call__(self, job: Job, tasks: Sequence[Task]) -> Iterator[Row]:
        for task in tasks:
            for question in task.questions:
                self.asked.append((task.path, question))
                yield (bad if task.path in self.broken else row)(task.path, question)
