"""Where examples come from: drawn clips with questions, or a list of videos with questions and answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from framefusion.core.errors import OptionError
from framefusion.evaluation.question_list import FIELDS, read_list
from framefusion.evaluation.synthetic_questions.questions import questions
from framefusion.evaluation.synthetic_questions.samples import sample_at
from framefusion.evaluation.synthetic_questions.scene import draw_scene

if TYPE_CHECKING:
    from framefusion.inference.video import Clip

SYNTHETIC = "synthetic"
# One line in so many is kept for the card.
KEPT_ASIDE = 10


@dataclass(frozen=True)
class Example:
    """One question with its answer."""

    media: Clip | Path
    question: str
    answer: str

    def clip(self, frames: int) -> Clip:
        """The clip, read with at most so many frames; a picture or a folder of frames may be one."""
        from framefusion.inference.media import MediaOptions, load_media

        return load_media(self.media, MediaOptions(frames)) if isinstance(self.media, Path) else self.media


class Course(Protocol):
    """Examples by number, the same for the same number."""

    @property
    def name(self) -> str: ...
    @property
    def held_out(self) -> Sequence[Example]: ...
    def __len__(self) -> int: ...
    def example(self, number: int) -> Example: ...


@dataclass(frozen=True)
class Drawn:
    """`count` questions about drawn clips, their kinds in turn.

    questions: about each clip. rows: of a batch; as many clips are asked one question each, then the next one, so that
    pictures are made and encoded once for several batches.
    """

    count: int
    seed: int
    questions: int = 1
    rows: int = 1
    name: str = SYNTHETIC
    held_out: Sequence[Example] = ()

    def __len__(self) -> int:
        return self.count

    def example(self, number: int) -> Example:
        block, inside = divmod(number, self.questions * self.rows)
        turn, row = divmod(inside, self.rows)
        clip, asked = _drawn(block * self.rows + row, self.seed)
        return Example(clip, *asked[turn % len(asked)])


@lru_cache(maxsize=32)
def _drawn(number: int, seed: int) -> tuple[Clip, list[tuple[str, str]]]:
    """A clip with questions and answers: the one it was drawn for, then of every other kind in turn, by lot."""
    sample = sample_at(number, seed)
    draw, kinds = np.random.default_rng([sample.seed, 2]), dict[str, list[tuple[str, str]]]()
    possible = questions(draw_scene(sample.seed))
    for one in (possible[place] for place in draw.permutation(len(possible))):
        kinds.setdefault(one.kind, []).append((one.text, one.answer))
    first = sample.question, sample.answer
    others = [one for turn in zip_longest(*kinds.values()) for one in turn if one not in (None, first)]
    return sample.clip(), [first, *others]


@dataclass(frozen=True)
class Listed:
    """Examples of a list. held_out: those that training does not see."""

    name: str
    examples: tuple[Example, ...]
    held_out: Sequence[Example]

    def __len__(self) -> int:
        return len(self.examples)

    def example(self, number: int) -> Example:
        return self.examples[number]


def read_course(data: str, count: int, seed: int, questions: int = 1, rows: int = 1) -> Course:
    """`synthetic`, a file of JSON lines or a folder with one. count, seed, questions, rows: as in `Drawn`.

    A line is {"video": a path beside the file, "question": words, "answer": words}.

    Raises OptionError, with the number of the line, for what is none.
    """
    if data == SYNTHETIC:
        return Drawn(count, seed, questions, rows)
    listed = read_list(Path(data), dict.fromkeys(FIELDS, "..."), f"use --data {SYNTHETIC}")
    found = [Example(line.video, line.question, line.answer) for line in listed.lines]
    if len(found) < 2:
        what = f"{listed.file} holds {len(found)} examples"
        raise OptionError(what, "one is kept aside for the card", "add some more")
    aside = found[::KEPT_ASIDE]
    return Listed(str(data), tuple(one for number, one in enumerate(found) if number % KEPT_ASIDE), aside)
