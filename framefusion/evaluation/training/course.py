"""Where examples come from: drawn clips with questions, or a list of videos with questions and answers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from framefusion.core.errors import OptionError
from framefusion.core.text import one_line
from framefusion.evaluation.synthetic_questions.questions import questions
from framefusion.evaluation.synthetic_questions.samples import sample_at
from framefusion.evaluation.synthetic_questions.scene import draw_scene

if TYPE_CHECKING:
    from framefusion.inference.video import Clip

SYNTHETIC = "synthetic"
LISTS = ("questions.jsonl", "data.jsonl", "train.jsonl")
FIELDS = ("video", "question", "answer")
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
    file = list_at(Path(data))
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise OptionError(f"cannot read {file}", one_line(str(error)), "give a file of JSON lines in UTF-8") from error
    found = [_example(file, number, line) for number, line in enumerate(lines, 1) if line.strip()]
    if len(found) < 2:
        raise OptionError(f"{file} holds {len(found)} examples", "one is kept aside for the card", "add some more")
    aside = found[::KEPT_ASIDE]
    return Listed(str(data), tuple(one for number, one in enumerate(found) if number % KEPT_ASIDE), aside)


def list_at(place: Path) -> Path:
    """The file of JSON lines at `place`: itself, or the one in the folder. Raises OptionError."""
    try:
        if place.is_file():
            return place
        found = [place / name for name in LISTS if (place / name).is_file()]
    except (OSError, ValueError) as error:  # no name of a file
        raise OptionError(f"there is no data at {one_line(str(place))}", one_line(str(error))) from error
    if not found:
        raise OptionError(
            f"there is no data at {one_line(str(place))}",
            f"it is neither a file of JSON lines nor a folder with {', '.join(LISTS)}",
            f"write lines such as {json.dumps(dict.fromkeys(FIELDS, '...'))}, or use --data {SYNTHETIC}",
        )
    return found[0]


def _example(file: Path, number: int, line: str) -> Example:
    try:
        row: Any = json.loads(line)
        parts = [row[name] for name in FIELDS]
        if not all(isinstance(part, str) and part.strip() for part in parts):
            raise ValueError("a field is no text, or empty")
        video = file.parent / parts[0]
        if not video.exists():
            raise ValueError(f"there is no video {parts[0]}")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        why = f"it has no {error}" if isinstance(error, KeyError) else one_line(str(error))
        hint = f"write lines such as {json.dumps(dict.fromkeys(FIELDS, '...'))}"
        raise OptionError(f"line {number} of {file} is no example", why, hint) from error
    return Example(video, parts[1], parts[2])
