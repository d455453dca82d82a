"""Questions of one's own as a yardstick: a file of JSON lines, each with a clip, a question and its answer."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from framefusion.core.errors import OptionError
from framefusion.core.options import Count, checked
from framefusion.core.text import one_line
from framefusion.evaluation.comparison import PROBE_SEED, PROBES
from framefusion.evaluation.question_list import FIELDS, Line, read_list

if TYPE_CHECKING:
    from framefusion.inference.video import Clip

KIND, CHOICES = "kind", "choices"
WITHOUT_KIND = "question"
EXAMPLE = {**dict.fromkeys(FIELDS, "..."), KIND: "...", CHOICES: ["...", "..."]}


@dataclass(frozen=True)
class ListedQuestion:
    """A line of the list. seed: its number. path: of the clip, of which `clip` reads so many `frames`."""

    seed: int
    kind: str
    question: str
    answer: str
    choices: tuple[str, ...]
    path: Path
    frames: int

    def clip(self) -> Clip:
        """The clip, picture or folder of frames."""
        from framefusion.inference.media import MediaOptions, load_media

        return load_media(self.path, MediaOptions(self.frames))


class ListedQuestions:
    """The questions of a list, in another order for every seed.

    A line is {"video": a path beside the file, "question": words, "answer": words, "kind": a name, "choices": [words]}.
    Without a kind it is a "question"; without choices they are the answers to all questions of its kind. The first
    lines, in all four or one of each kind, are not asked: on their clips costs are matched.

    Args:
        place: the file, or a folder with `questions.jsonl`.
        frames: to read of each clip.

    Raises:
        OptionError: what cannot be read or asked, with the number of the line.
    """

    def __init__(self, place: Path, frames: int) -> None:
        self.frames = checked("frames", Count, frames)
        self._list = read_list(place, EXAMPLE)
        self.file = self._list.file
        self._by_kind = self._questions()
        self.KINDS = tuple(self._by_kind)
        self.kept = ceil(PROBES / len(self.KINDS))
        self._check_counts()

    @cached_property
    def setup(self) -> Mapping[str, Any]:
        """What is different about answers to these questions."""
        return {"data": hashlib.sha256(self._list.data).hexdigest()[:16], "frames": self.frames}

    def samples(self, count: int, seed: int = 0, kinds: Sequence[str] | None = None) -> Iterator[ListedQuestion]:
        """`count` questions, kinds in turn, the same for the same seed. Raises OptionError where there are too few."""
        chosen = self.KINDS if kinds is None else tuple(kinds)
        pools = [self._pool(kind, seed, count) for kind in chosen]
        most = min(len(pool) * len(pools) + place for place, pool in enumerate(pools))
        if count > most:
            why = "kinds are asked in turn, no line twice, and the first of each are kept to match costs on"
            raise OptionError(f"{self.file} has no {count} questions to ask", why, f"ask for at most {most}")
        return (pools[number % len(pools)][number // len(pools)] for number in range(count))

    def to_ask(self, kind: str) -> list[ListedQuestion]:
        """All of a kind that can be asked, in the order of the file."""
        return self._by_kind[kind][self.kept :]

    def chance(self, kind: str) -> float:
        """Accuracy on `kind` by guessing among the choices."""
        return float(np.mean([1 / len(question.choices) for question in self._by_kind[kind]]))

    def _pool(self, kind: str, seed: int, count: int) -> list[ListedQuestion]:
        """The questions of a kind in the order of `seed`; for costs the first ones, over and over."""
        lines = self._by_kind[kind]
        first, others = lines[: self.kept], lines[self.kept :]
        if seed == PROBE_SEED:
            return [first[number % self.kept] for number in range(count)]
        return [others[place] for place in np.random.default_rng(seed).permutation(len(others))]

    def _questions(self) -> dict[str, list[ListedQuestion]]:
        asked: dict[str, list[ListedQuestion]] = {}
        answers: dict[str, dict[str, None]] = {}
        for line in self._list.lines:
            answers.setdefault(self._kind(line), {})[line.answer] = None
        for line in self._list.lines:
            kind = self._kind(line)
            choices = self._choices(line) or tuple(answers[kind])
            if len(choices) < 2:
                raise self._list.refusal(line.number, "it has one possible answer", "name several choices")
            question = ListedQuestion(line.number, kind, line.question, line.answer, choices, line.video, self.frames)
            asked.setdefault(kind, []).append(question)
        if not asked:
            raise OptionError(f"{self.file} holds no question", hint=f"write lines such as {json.dumps(EXAMPLE)}")
        return asked

    def _kind(self, line: Line) -> str:
        kind = line.more.get(KIND, WITHOUT_KIND)
        if not isinstance(kind, str) or not kind.strip():
            raise self._list.refusal(line.number, "its kind is no text, or empty", "name the kind, or leave it out")
        return kind

    def _choices(self, line: Line) -> tuple[str, ...]:
        """Those of the line, each once."""
        choices = line.more.get(CHOICES, [line.answer])
        if not isinstance(choices, list) or not all(isinstance(one, str) and one.strip() for one in choices):
            raise self._list.refusal(line.number, "its choices are no texts", "give a list of texts")
        if line.answer not in choices:
            raise self._list.refusal(line.number, "the answer is not among the choices", "add it to them")
        return tuple(dict.fromkeys(choices)) if CHOICES in line.more else ()

    def _check_counts(self) -> None:
        """Raises OptionError for a kind with nothing to ask."""
        for kind, found in self._by_kind.items():
            if len(found) <= self.kept:
                why = f"the first {self.kept} of each kind are not asked: costs are matched on their clips"
                what = f"{self.file} has {len(found)} questions of kind `{one_line(kind)}`"
                raise OptionError(what, why, "add some more, or leave the kind out")
