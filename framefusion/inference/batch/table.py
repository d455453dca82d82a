"""The result as a file: Parquet, or JSON lines where pyarrow is not installed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, BinaryIO

from framefusion.core.destination import check_file, replacing
from framefusion.core.errors import MissingPackageError, OptionError, RecordsError
from framefusion.core.lines import encoded
from framefusion.inference.batch.rows import HEAD, NAMES, Row

PARQUET, LINES = ".parquet", ".jsonl"
# Parts of a Parquet file that are read at once.
ROWS_AT_ONCE = 4096


def check_table(path: Path) -> None:
    """Raises before anything slow starts, and changes nothing.

    OptionError for a wrong name or place, MissingPackageError without pyarrow, RecordsError for a file of others.
    """
    if path.suffix.lower() not in (PARQUET, LINES):
        raise OptionError(f"cannot write `{path.name}`", "its ending says no format", f"use {PARQUET} or {LINES}")
    check_file(path, "--out")
    check_file(journal_of(path), "--out")
    check_file(lock_of(path), "--out", ours=_is_lock)
    if path.suffix.lower() == PARQUET:
        try:
            import pyarrow.parquet  # noqa: F401
        except ImportError as error:
            hint = "pip install 'framefusion[parquet]', or name a file that ends in .jsonl"
            raise MissingPackageError(f"{path.name} needs pyarrow", "it is not installed", hint) from error
    if path.exists() and path.stat().st_size:
        # Its first row tells whose the file is.
        next(read_table(path, lambda line: None), None)


def journal_of(path: Path) -> Path:
    """Where rows are until the table is written."""
    return path.with_name(f"{path.name}.journal")


def lock_of(path: Path) -> Path:
    """The file that whoever writes the table holds."""
    return path.with_name(f".{path.name}.lock")


def write_table(path: Path, rows: Iterable[Row]) -> None:
    """Replace the file at once: a reader sees the old rows or the new ones. Raises OSError."""
    with replacing(path) as file:
        (_write_parquet if path.suffix.lower() == PARQUET else _write_lines)(file, rows)


def read_table(path: Path, set_aside: Callable[[bytes], object] | None = None) -> Iterator[Row]:
    """Rows of a file that `write_table` wrote. set_aside: called with each line of it that was damaged since.

    Raises RecordsError if it holds something else, and for a damaged line where nobody sets it aside.
    """
    try:
        yield from _read_parquet(path) if path.suffix.lower() == PARQUET else _read_lines(path, set_aside)
    except (RecordsError, MemoryError):
        raise
    except Exception as error:
        # What pyarrow raises for a damaged file has no common base.
        why = str(error).strip().split("\n")[0] or type(error).__name__
        raise RecordsError(f"{path} is not a file of answers", why, "give --out a new file") from error


def _write_lines(file: BinaryIO, rows: Iterable[Row]) -> None:
    for row in rows:
        file.write(encoded([row.to_line()]))


def _read_lines(path: Path, set_aside: Callable[[bytes], object] | None) -> Iterator[Row]:
    set_aside = set_aside or _refuse
    if path.stat().st_size and not _has_rows(path):
        raise ValueError("none of its lines is an answer")
    with path.open("rb") as file:
        for line in file:
            row = Row.from_line(line)
            if row is not None:
                yield row
            elif line.strip():
                set_aside(line)


def _has_rows(path: Path) -> bool:
    with path.open("rb") as file:
        return any(line.startswith(HEAD) or Row.from_line(line) is not None for line in file)


def _refuse(line: bytes) -> None:
    raise ValueError(f"{line[:40].decode(errors='replace')!r} is no answer")


def _write_parquet(file: BinaryIO, rows: Iterable[Row]) -> None:
    import pyarrow
    from pyarrow import parquet

    table = pyarrow.Table.from_pylist([_storable(row) for row in rows], _schema())
    parquet.write_table(table, file)


def _storable(row: Row) -> dict[str, Any]:
    """Columns as Parquet has them: its texts are UTF-8, which has no halves of surrogate pairs."""
    return {
        name: value.encode(errors="backslashreplace").decode() if isinstance(value, str) else value
        for name, value in asdict(row).items()
    }


def _read_parquet(path: Path) -> Iterator[Row]:
    from pyarrow import parquet

    with parquet.ParquetFile(path) as file:
        missing = {"path", "question", "error", "settings"} - set(file.schema_arrow.names)
        if missing:
            raise ValueError(f"it has no column {', '.join(sorted(missing))}")
        known = [name for name in NAMES if name in file.schema_arrow.names]
        for part in file.iter_batches(ROWS_AT_ONCE, columns=known):
            yield from map(Row.from_values, part.to_pylist())


def _is_lock(path: Path) -> bool:
    """Nothing, or where a file system has no locks the number of a process."""
    return path.read_bytes()[:99].partition(b"\n")[0].isdigit()


def _schema() -> Any:
    """Types of the columns; the types of `Row` are texts because annotations are not evaluated."""
    import pyarrow

    types = {"str": pyarrow.string(), "bool": pyarrow.bool_(), "int": pyarrow.int64(), "float": pyarrow.float64()}
    return pyarrow.schema([(field.name, types[str(field.type).partition(" ")[0]]) for field in fields(Row)])
