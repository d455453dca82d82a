"""Lists of videos with questions and answers: JSON lines, in a file or in a folder."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from framefusion.core.errors import OptionError
from framefusion.core.text import one_line

LISTS = ("questions.jsonl", "data.jsonl", "train.jsonl")
FIELDS = ("video", "question", "answer")


@dataclass(frozen=True)
class Line:
    """One line of a list. video: its path. more: its other fields, as they stand."""

    number: int
    video: Path
    question: str
    answer: str
    more: dict[str, Any]


@dataclass(frozen=True)
class QuestionList:
    """The lines of `file`, and the bytes they were read from."""

    file: Path
    data: bytes
    lines: Sequence[Line]

    def refusal(self, number: int, why: str, hint: str) -> OptionError:
        """The error of a line."""
        return OptionError(f"line {number} of {self.file} is no question", why, hint)


def read_list(place: Path, example: dict[str, Any], instead: str = "") -> QuestionList:
    """The list at `place`, a file or a folder with one of `LISTS`.

    A line is {"video": a path beside the file, "question": words, "answer": words}, and what else its reader knows.

    Args:
        place: where it is.
        example: a line as it could be, for hints.
        instead: what to do without a list, for the hint.

    Raises OptionError, with the number of the line, for what is none.
    """
    hint = f"write lines such as {json.dumps(example)}"
    file = _file_at(place, f"{hint}, or {instead}" if instead else hint)
    try:
        data = file.read_bytes()
        texts = data.decode().splitlines()
    except (OSError, ValueError) as error:
        raise OptionError(f"cannot read {file}", one_line(str(error)), "give a file of JSON lines in UTF-8") from error
    lines: list[Line] = []
    found = QuestionList(file, data, lines)
    for number, text in enumerate(texts, 1):
        if not text.strip():
            continue
        try:
            lines.append(_line(file.parent, number, text))
        except (ValueError, KeyError, TypeError, OSError, RecursionError) as error:
            why = f"it has no {error}" if isinstance(error, KeyError) else one_line(str(error))
            raise found.refusal(number, why, hint) from error
    return found


def _line(folder: Path, number: int, text: str) -> Line:
    row: Any = json.loads(text)
    if not isinstance(row, dict):
        raise ValueError("it is no object")
    video, question, answer = (row.pop(name) for name in FIELDS)
    if not all(isinstance(part, str) and part.strip() for part in (video, question, answer)):
        raise ValueError("a field is no text, or empty")
    if not (folder / video).exists():
        raise ValueError(f"there is no video {video}")
    return Line(number, folder / video, question, answer, row)


def _file_at(place: Path, hint: str) -> Path:
    """The file of JSON lines at `place`: itself, or the one in the folder. Raises OptionError."""
    try:
        if place.is_file():
            return place
        found = [place / name for name in LISTS if (place / name).is_file()]
    except (OSError, ValueError) as error:  # no name of a file
        raise OptionError(f"there is no data at {one_line(str(place))}", one_line(str(error))) from error
    if not found:
        why = f"it is neither a file of JSON lines nor a folder with {', '.join(LISTS)}"
        raise OptionError(f"there is no data at {one_line(str(place))}", why, hint)
    return found[0]
