"""All rows of a result: the file of earlier runs, a journal beside it, and a lock for whoever writes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from framefusion.batch.job import VERSIONS
from framefusion.batch.journal import Journal
from framefusion.batch.rows import Key, Row
from framefusion.batch.table import check_table, read_table, write_table
from framefusion.errors import RecordsError


class Store:
    """What is finished, and what is being added to it; for use in a `with` block.

    out: the result, `.parquet` or `.jsonl`. settings: of the job; a file holds rows of one setting. found: the clips
    and questions that have a row, and whether it holds an answer. unreadable: lines of the journal that were lost.

    The journal is `out` with `.journal` behind it. It is there from the first row until the result is written, which
    happens at once; a run killed in between finds the same rows in both. A later row of a clip and question replaces an
    earlier one, which only asking again after an error brings about.

    Raises RecordsError, OptionError, MissingPackageError.
    """

    def __init__(self, out: Path, settings: dict[str, Any]) -> None:
        check_table(out)
        self.out, self.settings = out, settings
        self.found: dict[Key, bool] = {}
        self.unreadable = 0
        self._journal: Journal | None = None

    def __enter__(self) -> Store:
        from filelock import FileLock, Timeout

        self._lock = FileLock(self.out.with_name(f".{self.out.name}.lock"))
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            hint = "wait until it is done, or give --out another file"
            raise RecordsError(f"another run is writing {self.out}", "rows would be answered twice", hint) from None
        except OSError as error:
            hint = "give --out a file you may write"
            raise RecordsError(f"{self.out} cannot be written", error.strerror or str(error), hint) from error
        try:
            self._open()
        except BaseException:
            self._lock.release()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        if self._journal is not None:
            self._journal.close()
        self._lock.release()

    def add(self, row: Row) -> None:
        """On disk before this returns."""
        if self._journal is None:
            self._journal = Journal(self._beside)
        self._journal.add(row)
        self.found[row.key] = row.error is None

    def finish(self) -> None:
        """Write the result, sorted by path and question, and let go of the journal. Raises RecordsError."""
        if self._journal is None and self.out.exists():
            return
        rows = {row.key: row for row in self._rows()}
        try:
            write_table(self.out, [rows[key] for key in sorted(rows)])
        except OSError as error:
            hint = f"every row is kept in {self._beside}; make room and run the same command again"
            raise RecordsError(f"{self.out} cannot be written", error.strerror or str(error), hint) from error
        if self._journal is not None:
            self._journal.remove()
            self._journal = None

    @property
    def _beside(self) -> Path:
        return self.out.with_name(self.out.name + ".journal")

    def _open(self) -> None:
        self._journal = Journal(self._beside) if self._beside.exists() else None
        seen = ""
        for row in self._rows():
            if row.settings != seen:
                self._check(row.settings)
                seen = row.settings
            self.found[row.key] = row.error is None
        self.unreadable = self._journal.unreadable if self._journal is not None else 0

    def _rows(self) -> Iterator[Row]:
        if self.out.exists():
            yield from read_table(self.out)
        if self._journal is not None:
            yield from self._journal.rows()

    def _check(self, text: str) -> None:
        """Refuse rows that something else answered."""
        try:
            theirs = dict(json.loads(text))
        except (ValueError, TypeError):
            theirs = {}
        names = [name for name in self.settings if name != VERSIONS and theirs.get(name) != self.settings[name]]
        if names:
            pairs = (f"{name} is {theirs.get(name)!r} there and {self.settings[name]!r} here" for name in names)
            hint = "give --out another file, or repeat the options of the first run"
            raise RecordsError(f"{self.out} holds answers of another job", "; ".join(pairs), hint)
