"""Answered questions on disk: one JSON line each, appended as they come, so that a killed run goes on from there."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

from framefusion.core.destination import append, cache_folder, check_file, open_to_append, reason
from framefusion.core.errors import RecordsError
from framefusion.core.lines import check_types, encoded, line_of, read_object, split
from framefusion.evaluation.cells import Cell

if TYPE_CHECKING:
    from framefusion.evaluation.answers import Question


@dataclass(frozen=True)
class Record:
    """One question, answered in one cell.

    text: what the model wrote. answer: the choice it names, None if none. confidence: probability of the tokens it
    wrote, given the prompt. visual_tokens: of the prompt; kept_tokens: alive after the last layer. cost: mean over
    layers of the visual tokens a layer reads, as a fraction of all. prefill_ms: to the first token, vision tower
    included; ms: to the last. kv_bytes: what the cache holds at the end. rows: questions answered together; times and
    bytes are the batch's, divided by them. patches_share: of the patches of its pictures, those that the vision tower
    encoded.
    """

    cell: Cell
    seed: int
    kind: str
    expected: str
    answer: str | None
    correct: bool
    text: str
    confidence: float
    prompt_tokens: int
    visual_tokens: int
    kept_tokens: int
    cost: float
    new_tokens: int
    prefill_ms: float
    ms: float
    kv_bytes: float
    rows: int
    patches_share: float = 1.0

    @property
    def kept_fraction(self) -> float:
        return self.kept_tokens / self.visual_tokens if self.visual_tokens else 1.0

    def to_line(self) -> str:
        data = {field.name: getattr(self, field.name) for field in fields(self)}
        return line_of(data | {"cell": self.cell.to_dict()}) + "\n"

    @staticmethod
    def from_line(line: str | bytes) -> Record | None:
        """None for a line that is torn or no record."""
        try:
            data = read_object(line)
            check_types(Record, data, infinite=("confidence",))
            check_types(Cell, data["cell"])
            record = Record(**(data | {"cell": Cell(**data["cell"])}))
            # Computed here, where nesting that it cannot follow costs this line only.
            return record if record.cell.key else None
        except (ValueError, TypeError, KeyError, RecursionError):
            return None


Name = tuple[str, int, str]
# What every line begins with, also one that was cut or changed by hand.
HEAD = b'{"cell": {"model": '


class Records:
    """All answers of a file, and those added to it. path: None keeps them in memory only.

    torn: lines that hold no answer; they stay where they are. A file is ours if it is empty, or any of its lines is an
    answer or begins like one. It is made with the first answer, and folders that are missing with it.

    Raises RecordsError if the file holds something else, or cannot be written.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.torn = 0
        self._found: dict[Name, Record] = {}
        self._cut = False
        if path is not None:
            check_file(path, "--out", parents=True, error=RecordsError)
            self._read(path)

    def __len__(self) -> int:
        return len(self._found)

    def has(self, cell: Cell, question: Question) -> bool:
        return (cell.key, question.seed, question.kind) in self._found

    def get(self, cell: Cell, question: tuple[int, str]) -> Record:
        """The answer to question (seed, kind)."""
        return self._found[cell.key, *question]

    @property
    def notes(self) -> list[str]:
        """What a reader of the results should know about the file."""
        lines = "1 line" if self.torn == 1 else f"{self.torn} lines"
        return [f"{lines} of {self.path} could not be read; what they answered is asked again"] if self.torn else []

    def add(self, records: Iterable[Record]) -> None:
        """Keep answers; on disk before this returns. Questions that were answered already keep their first answer."""
        new = {_name(record): record for record in records if _name(record) not in self._found}
        if self.path is not None and new:
            self._append(self.path, encoded(record.to_line() for record in new.values()))
        self._found |= new

    def _append(self, path: Path, data: bytes) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = open_to_append(path)
            try:
                # A run that was killed in the middle of a line left it open; the next one starts on its own.
                append(file, b"\n" * self._cut + data)
            finally:
                os.close(file)
        except OSError as error:
            raise self._unusable(error) from error
        self._cut = False

    def _read(self, path: Path) -> None:
        try:
            data = path.read_bytes() if path.exists() else b""
        except OSError as error:
            raise self._unusable(error) from error
        lines = [line for line in split(data) if line.strip()]
        for record in map(Record.from_line, lines):
            if record is None:
                self.torn += 1
            else:
                self._found.setdefault(_name(record), record)
        if data and not self._found and not any(line.startswith(HEAD) for line in lines):
            raise RecordsError(f"{path} is not a file of answers", "none of its lines is one", "give --out a new file")
        self._cut = bool(data) and not data.endswith(b"\n")

    def _unusable(self, error: OSError) -> RecordsError:
        return RecordsError(f"answers cannot be kept in {self.path}", reason(error), "give --out a file you may write")


def _name(record: Record) -> Name:
    return record.cell.key, record.seed, record.kind


def default_folder() -> Path:
    """Where answers are kept unless told otherwise: the user's cache folder."""
    return cache_folder() / "answers"


def default_path(model: str, weights: str) -> Path:
    """The file of a model's answers in the default folder."""
    slug = re.sub(r"[^\w.-]+", "-", model).strip("-.")[-80:]
    return default_folder() / f"{slug}-{weights}.jsonl"
