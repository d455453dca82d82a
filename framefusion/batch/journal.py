"""Rows on disk as they come: one JSON line each, appended, so that a kill costs nothing that was finished."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from framefusion.batch.rows import Row
from framefusion.errors import RecordsError


class Journal:
    """A file that only grows, written by one process at a time (the store's lock sees to that).

    unreadable: lines that hold no row. The end of a line that a kill cut off is removed when the journal is opened.

    Raises RecordsError if the file is something else, or cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.unreadable = 0
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0), 0o666)
        except OSError as error:
            raise self._unwritable(error) from error
        self._size = self._cut()

    def rows(self) -> Iterator[Row]:
        """All rows, in the order they were added."""
        self.unreadable = good = 0
        with self.path.open("rb") as file:
            for line in file:
                row = Row.from_line(line)
                if row is None:
                    self.unreadable += 1
                else:
                    good += 1
                    yield row
        if self.unreadable > 1 and not good:
            raise RecordsError(f"{self.path} is no journal of answers", "none of its lines is one", "remove it")

    def add(self, row: Row) -> None:
        """On disk before this returns, or not at all."""
        line = row.to_line().encode() + b"\n"
        try:
            done = 0
            while done < len(line):
                done += os.write(self._file, line[done:])
            os.fsync(self._file)
        except OSError as error:
            # Half a line would swallow the next one.
            os.ftruncate(self._file, self._size)
            raise self._unwritable(error) from error
        self._size += len(line)

    def close(self) -> None:
        os.close(self._file)

    def remove(self) -> None:
        """When its rows are elsewhere."""
        self.close()
        self.path.unlink()

    def _cut(self) -> int:
        """Remove what stands behind the last complete line; returns the size that is left."""
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
        return end

    def _unwritable(self, error: OSError) -> RecordsError:
        hint = "every row so far is kept; make room or give --out a file you may write, and run the same command again"
        return RecordsError(f"answers cannot be kept in {self.path}", error.strerror or str(error), hint)
