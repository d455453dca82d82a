"""The files of the project, found without git so that an unpacked archive is checked too."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

ROOMS = (".ci", ".github", "benchmarks", "docs", "examples", "framefusion", "notebooks", "scripts", "tests", "training")
GENERATED = {"__pycache__", ".hypothesis"}


def files() -> Iterator[Path]:
    """Every file at the top and in the rooms of the project."""
    for path in sorted(ROOT.iterdir()):
        if path.is_file() and path.name != ".git":
            yield path
        elif path.name in ROOMS:
            yield from (p for p in sorted(path.rglob("*")) if p.is_file() and not GENERATED & set(p.parts))


def texts() -> Iterator[tuple[Path, str]]:
    """Every file that is text, with its text."""
    for path in files():
        try:
            yield path, path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue


def sources() -> list[Path]:
    """The package's Python files."""
    return [path for path in files() if path.suffix == ".py" and path.is_relative_to(ROOT / "framefusion")]


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()
