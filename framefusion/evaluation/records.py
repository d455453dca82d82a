"""Answered questions on disk: one JSON line each, appended as they come, so that a killed run goes on from there."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

from framefusion.errors import RecordsError
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
    bytes are the batch's, divided by them.
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

    @property
    def kept_fraction(self) -> float:
        return self.kept_tokens / self.visual_tokens if self.visual_tokens else 1.0

    def to_line(self) -> str:
        data = {field.name: getattr(self, field.name) for field in fields(self)}
        return json.dumps(data | {"cell": self.cell.to_dict()}, ensure_ascii=False) + "\n"

    @staticmethod
    def from_line(line: str) -> Record | None:
        """None for a line that is torn or no record."""
        try:
            data = json.loads(line)
            return Record(**(data | {"cell": Cell(**data["cell"])}))
        except (ValueError, TypeError, KeyError):
            return None


Name = tuple[str, int, str]


class Records:
    """All answers of a file, and those added to it. path: None keeps them in memory only.

    Raises RecordsError if the file holds something else, or cannot be written.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.torn = 0
        self._found: dict[Name, Record] = {}
        if path is not None:
            self._read(path)

    def __len__(self) -> int:
        return len(self._found)

    def has(self, cell: Cell, question: Question) -> bool:
        return (cell.key, question.seed, question.kind) in self._found

    def get(self, cell: Cell, question: tuple[int, str]) -> Record:
        """The answer to question (seed, kind)."""
        return self._found[cell.key, *question]

    def add(self, records: Iterable[Record]) -> None:
        """Keep answers; on disk before this returns. Questions that were answered already keep their first answer."""
        new = {_name(record): record for record in records if _name(record) not in self._found}
        self._found |= new
        if self.path is None or not new:
            return
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write("".join(record.to_line() for record in new.values()))
        except OSError as error:
            raise self._unwritable(error) from error

    def _read(self, path: Path) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
            lines = path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
        except OSError as error:
            raise self._unwritable(error) from error
        for record in map(Record.from_line, lines):
            if record is None:
                self.torn += 1
            else:
                self._found.setdefault(_name(record), record)
        if self.torn > 1 and not self._found:
            raise RecordsError(f"{path} is not a file of answers", "none of its lines is one", "give --out a new file")
        if lines and not lines[-1].endswith("\n"):
            # The run was killed in the middle of a line; the next one starts on its own.
            with path.open("a", encoding="utf-8") as file:
                file.write("\n")

    def _unwritable(self, error: OSError) -> RecordsError:
        return RecordsError(
            f"answers cannot be kept in {self.path}", error.strerror or str(error), "give --out a file you may write"
        )


def _name(record: Record) -> Name:
    return record.cell.key, record.seed, record.kind


def default_path(model: str, weights: str) -> Path:
    """Where answers of a model are kept unless told otherwise: the user's cache folder."""
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if not base.is_absolute():
        base = Path.home() / ".cache"
    slug = re.sub(r"[^\w.-]+", "-", model).strip("-.")[-80:]
    return base / "framefusion" / "answers" / f"{slug}-{weights}.jsonl"
