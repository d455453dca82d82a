"""The result as a file: Parquet, or JSON lines where pyarrow is not installed."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from framefusion.batch.rows import NAMES, Row
from framefusion.errors import MissingPackageError, OptionError, RecordsError

PARQUET, LINES = ".parquet", ".jsonl"
# Parts of a Parquet file that are read at once.
ROWS_AT_ONCE = 4096


def check_table(path: Path) -> None:
    """Raises before anything slow starts: OptionError for a wrong name, MissingPackageError without pyarrow."""
    if path.suffix.lower() not in (PARQUET, LINES):
        raise OptionError(f"cannot write `{path.name}`", "its ending says no format", f"use {PARQUET} or {LINES}")
    if not path.absolute().parent.is_dir():
        raise OptionError(f"there is no folder `{path.parent}`", hint="make it, or choose another --out")
    if path.suffix.lower() == PARQUET:
        try:
            import pyarrow.parquet  # noqa: F401
        except ImportError as error:
            hint = "pip install 'framefusion[parquet]', or name a file that ends in .jsonl"
            raise MissingPackageError(f"{path.name} needs pyarrow", "it is not installed", hint) from error


def write_table(path: Path, rows: Iterable[Row]) -> None:
    """Replace the file at once: a reader sees the old rows or the new ones. Raises OSError."""
    beside = path.with_name(f".{path.name}.new")
    try:
        (_write_parquet if path.suffix.lower() == PARQUET else _write_lines)(beside, rows)
        with beside.open("rb") as file:
            os.fsync(file.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def read_table(path: Path) -> Iterator[Row]:
    """Rows of a file that `write_table` wrote. Raises RecordsError if it holds something else."""
    try:
        yield from (_read_parquet if path.suffix.lower() == PARQUET else _read_lines)(path)
    except (OSError, ValueError, TypeError) as error:
        hint = "give --out a new file"
        raise RecordsError(f"{path} is not a file of answers", str(error).splitlines()[0], hint) from error


def _write_lines(path: Path, rows: Iterable[Row]) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.writelines(row.to_line() + "\n" for row in rows)


def _read_lines(path: Path) -> Iterator[Row]:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            row = Row.from_line(line)
            if row is None:
                raise ValueError(f"line {number} is no answer")
            yield row


def _write_parquet(path: Path, rows: Iterable[Row]) -> None:
    import pyarrow
    from pyarrow import parquet

    table = pyarrow.Table.from_pylist([asdict(row) for row in rows], _schema())
    parquet.write_table(table, path)


def _read_parquet(path: Path) -> Iterator[Row]:
    from pyarrow import parquet

    with parquet.ParquetFile(path) as file:
        missing = {"path", "question", "error", "settings"} - set(file.schema_arrow.names)
        if missing:
            raise ValueError(f"it has no column {', '.join(sorted(missing))}")
        known = [name for name in NAMES if name in file.schema_arrow.names]
        for part in file.iter_batches(ROWS_AT_ONCE, columns=known):
            yield from map(Row.from_values, part.to_pylist())


def _schema() -> Any:
    """Types of the columns; the types of `Row` are texts because annotations are not evaluated."""
    import pyarrow

    types = {"str": pyarrow.string(), "bool": pyarrow.bool_(), "int": pyarrow.int64(), "float": pyarrow.float64()}
    return pyarrow.schema([(field.name, types[str(field.type).partition(" ")[0]]) for field in fields(Row)])
