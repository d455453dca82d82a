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
from framefusion.evaluation.training.course import FIELDS, list_at

if TYPE_CHECKING:
    from framefusion.inference.video import Clip

KIND, CHOICES = "kind", "choices"
WITHOUT_KIND = "question"
HINT = f"write lines such as {json.dumps({**dict.fromkeys(FIELDS, '...'), KIND: '...', CHOICES: ['...', '...']})}"


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
        self.file, self.frames = list_at(place), checked("frames", Count, frames)
        try:
            self._data = self.file.read_bytes()
            lines = self._data.decode().splitlines()
        except (OSError, ValueError) as error:
            hint = "give a file of JSON lines in UTF-8"
            raise OptionError(f"cannot read {self.file}", one_line(str(error)), hint) from error
        rows = {number: self._row(number, line) for number, line in enumerate(lines, 1) if line.strip()}
        self._by_kind = self._questions(rows)
        self.KINDS = tuple(self._by_kind)
        self.kept = ceil(PROBES / len(self.KINDS))
        self._check_counts()

    @cached_property
    def setup(self) -> Mapping[str, Any]:
        """What is different about answers to these questions."""
        return {"data": hashlib.sha256(self._data).hexdigest()[:16], "frames": self.frames}

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

    def _row(self, number: int, line: str) -> dict[str, Any]:
        try:
            row: Any = json.loads(line)
            if not isinstance(row, dict):
                raise ValueError("it is no object")
            row.setdefault(KIND, WITHOUT_KIND)
            texts = [row[name] for name in (*FIELDS, KIND)] + [*row.get(CHOICES, [])]
            if not all(isinstance(text, str) and text.strip() for text in texts):
                raise ValueError("a field is no text, or empty")
            if CHOICES in row and (not isinstance(row[CHOICES], list) or row["answer"] not in row[CHOICES]):
                raise ValueError("the answer is not among the choices")
            if not (self.file.parent / row["video"]).exists():
                raise ValueError(f"there is no video {row['video']}")
        except (ValueError, KeyError, TypeError, OSError, RecursionError) as error:
            why = f"it has no {error}" if isinstance(error, KeyError) else one_line(str(error))
            raise OptionError(f"line {number} of {self.file} is no question", why, HINT) from error
        return row

    def _questions(self, rows: Mapping[int, dict[str, Any]]) -> dict[str, list[ListedQuestion]]:
        kinds: dict[str, list[ListedQuestion]] = {}
        answers: dict[str, dict[str, None]] = {}
        for row in rows.values():
            answers.setdefault(row[KIND], {})[row["answer"]] = None
        for number, row in rows.items():
            choices = tuple(dict.fromkeys(row.get(CHOICES, answers[row[KIND]])))
            if len(choices) < 2:
                why = "it has one possible answer"
                raise OptionError(f"line {number} of {self.file} is no question", why, "name several choices")
            path = self.file.parent / row["video"]
            asked = ListedQuestion(number, row[KIND], row["question"], row["answer"], choices, path, self.frames)
            kinds.setdefault(row[KIND], []).append(asked)
        if not kinds:
            raise OptionError(f"{self.file} holds no question", hint=HINT)
        return kinds

    def _check_counts(self) -> None:
        """Raises OptionError for a kind with nothing to ask."""
        for kind, found in self._by_kind.items():
            if len(found) <= self.kept:
                why = f"the first {self.kept} of each kind are not asked: costs are matched on their clips"
                what = f"{self.file} has {len(found)} questions of kind `{one_line(kind)}`"
                raise OptionError(what, why, "add some more, or leave the kind out")
