"""All rows of a result: the file of earlier runs, a journal beside it, and a lock for whoever writes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from framefusion.core.destination import put_new, reason
from framefusion.core.errors import RecordsError
from framefusion.core.lines import encoded, read_object
from framefusion.inference.batch.job import VERSIONS
from framefusion.inference.batch.journal import Journal
from framefusion.inference.batch.rows import Key, Row
from framefusion.inference.batch.table import check_table, journal_of, lock_of, read_table, write_table


class Store:
    """What is finished, and what is being added to it; for use in a `with` block.

    out: the result, `.parquet` or `.jsonl`. settings: of the job; a file holds rows of one setting. found: the clips
    and questions that have a row, and whether it holds an answer. unreadable: lines of result and journal that hold no
    row; when a new result is written, they go into a file of their own, `out` with `.damaged` behind it.

    The journal is `out` with `.journal` behind it. It is there from the first row until the result is written, which
    happens at once; a run killed in between finds the same rows in both. A later row of a clip and question replaces an
    earlier one, which only asking again after an error brings about.

    Raises RecordsError, OptionError, MissingPackageError.
    """

    def __init__(self, out: Path, settings: dict[str, Any]) -> None:
        check_table(out)
        self.out, self.settings = out, settings
        self.found: dict[Key, bool] = {}
        self._damaged: list[bytes] = []
        self._journal: Journal | None = None

    def __enter__(self) -> Store:
        from filelock import FileLock, Timeout

        self._lock = FileLock(lock_of(self.out))
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            hint = "wait until it is done, or give --out another file"
            raise RecordsError(f"another run is writing {self.out}", "rows would be answered twice", hint) from None
        except OSError as error:
            hint = "give --out a file you may write"
            raise RecordsError(f"{self.out} cannot be written", reason(error), hint) from error
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
            if self._damaged:
                put_new(self.out.with_name(f"{self.out.name}.damaged"), b"".join(self._damaged))
            write_table(self.out, [rows[key] for key in sorted(rows)])
        except OSError as error:
            hint = f"every row is kept in {self._beside}; make room and run the same command again"
            raise RecordsError(f"{self.out} cannot be written", reason(error), hint) from error
        if self._journal is not None:
            self._journal.remove()
            self._journal = None

    @property
    def unreadable(self) -> int:
        return len(self._damaged)

    @property
    def _beside(self) -> Path:
        return journal_of(self.out)

    def _open(self) -> None:
        self._journal = Journal(self._beside) if os.path.lexists(self._beside) else None
        seen = ""
        for row in self._rows():
            if row.settings != seen:
                self._check(row.settings)
                seen = row.settings
            self.found[row.key] = row.error is None

    def _rows(self) -> Iterator[Row]:
        self._damaged = []
        for row in self._readable():
            if _settings(row.settings) is None:
                self._damaged.append(encoded([row.to_line()]))
            else:
                yield row

    def _readable(self) -> Iterator[Row]:
        if self.out.exists() and self.out.stat().st_size:
            yield from read_table(self.out, self._damaged.append)
        if self._journal is not None:
            yield from self._journal.rows(self._damaged.append)

    def _check(self, text: str) -> None:
        """Refuse rows that something else answered."""
        theirs = _settings(text) or {}
        names = [name for name in self.settings if name != VERSIONS and theirs.get(name) != self.settings[name]]
        if names:
            pairs = (f"{name} is {theirs.get(name)!r} there and {self.settings[name]!r} here" for name in names)
            hint = "give --out another file, or repeat the options of the first run"
            raise RecordsError(f"{self.out} holds answers of another job", "; ".join(pairs), hint)


@lru_cache
def _settings(text: str) -> dict[str, Any] | None:
    """None where a row does not say what answered."""
    try:
        return read_object(text)
    except ValueError:
        return None
