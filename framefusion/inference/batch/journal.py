"""Rows on disk as they come: one JSON line each, appended, so that a kill costs nothing that was finished."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from framefusion.core.destination import append, open_to_append, reason
from framefusion.core.errors import RecordsError
from framefusion.core.lines import encoded
from framefusion.inference.batch.rows import HEAD, Row


class Journal:
    """A file that only grows, written by one process at a time (the store's lock sees to that).

    A file is ours if it is empty, or any of its lines is a row or begins like one; of such a file the end of a line
    that a kill cut off is removed.

    Raises RecordsError if the file is something else, which is then left as it is, or cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._file = open_to_append(path)
        except OSError as error:
            raise self._unusable(error) from error
        try:
            self._check()
            self._cut()
        except OSError as error:
            self.close()
            raise self._unusable(error) from error
        except BaseException:
            self.close()
            raise

    def rows(self, set_aside: Callable[[bytes], object]) -> Iterator[Row]:
        """All rows, in the order they were added. set_aside: called with each line that holds none."""
        with self.path.open("rb") as file:
            for line in file:
                row = Row.from_line(line)
                if row is not None:
                    yield row
                elif line.strip():
                    set_aside(line)

    def add(self, row: Row) -> None:
        """On disk before this returns, or not at all."""
        try:
            append(self._file, encoded([row.to_line()]))
        except OSError as error:
            raise self._unusable(error) from error

    def close(self) -> None:
        os.close(self._file)

    def remove(self) -> None:
        """When its rows are elsewhere."""
        self.close()
        self.path.unlink()

    def _check(self) -> None:
        with self.path.open("rb") as file:
            ours = any(line.startswith(HEAD) or Row.from_line(line) is not None for line in file)
        if not ours and os.fstat(self._file).st_size:
            hint = "move it away, or give --out another name"
            raise RecordsError(f"{self.path} is no journal of answers", "none of its lines is one", hint)

    def _cut(self) -> None:
        """Remove what stands behind the last complete line."""
        size = end = os.fstat(self._file).st_size
        with self.path.open("rb") as file:
            while end:
                start = max(0, end - 2**16)
                file.seek(start)
                place = file.read(end - start).rfind(b"\n")
                if place >= 0:
                    end = start + place + 1
                    break
                end = start
        if end < size:
            os.ftruncate(self._file, end)

    def _unusable(self, error: OSError) -> RecordsError:
        hint = "every row so far is kept; make room or give --out a file you may write, and run the same command again"
        return RecordsError(f"answers cannot be kept in {self.path}", reason(error), hint)
