"""Results as rows: one line of JSON each, with what is needed to read them later."""

from __future__ import annotations

import math
import os
import platform
import subprocess
from collections.abc import Collection, Iterable, Mapping
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any

import torch

from benchmarks.timing import Spread
from framefusion.core.destination import append as append_bytes
from framefusion.core.destination import check_file, open_to_append, reason
from framefusion.core.errors import OptionError
from framefusion.core.lines import encoded, is_number, line_of, read_object, split

ROOT = Path(__file__).parent
NOT_MEASURED = "not measured"
Row = dict[str, Any]

# What every row has, and tables are made of.
TEXTS = ("cell", "variant", "part", "device", "kind", "shape", "dtype", "torch", "transformers")
NUMBERS = (
    "frames",
    "patches",
    "layers",
    "layers_of_the_model",
    "tower_blocks",
    "blocks_of_the_tower",
    "cost",
    "decode",
)
FIGURES = ("median_ms", "p20_ms", "p80_ms")
STREAM_NUMBERS = ("cache_mib", "windows", "memory", "window", "seed", "age_s", "questions", "accuracy", "accuracy_low")
ANSWER = (int, int, str, str, str, bool)
"""Types of one answer of a row of accuracy, see `benchmarks.stream.asked.line_of`."""


def row(about: Mapping[str, Any], variant: str, part: str, spread: Spread | None, **more: Any) -> Row:
    """about: what the whole cell is. spread: None where nothing was measured; `note` then says why."""
    figures = dict.fromkeys(field.name for field in fields(Spread)) if spread is None else vars(spread)
    return {"cell": about["cell"], "variant": variant, "part": part, **figures, **more, **about}


@cache
def provenance() -> Mapping[str, Any]:
    """Versions, commit and machine."""
    import transformers

    import framefusion

    return {
        "framefusion": framefusion.__version__,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "threads": torch.get_num_threads(),
        "commit": _git("rev-parse", "--short=12", "HEAD"),
        "changed": bool(_git("status", "--porcelain", "--untracked-files=no")),
    }


def device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU, {torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}"


def _git(*words: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def append(path: Path, rows: Iterable[Row]) -> None:
    """Add rows to a file; what is in it stays. Raises OptionError."""
    check_rows(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = open_to_append(path)
        try:
            end = os.lseek(file, 0, os.SEEK_END)
            torn = end and os.pread(file, 1, end - 1) != b"\n"
            append_bytes(file, b"\n" * bool(torn) + encoded(line_of(one) for one in rows))
        finally:
            os.close(file)
    except OSError as error:
        raise OptionError(f"cannot write {path}", reason(error), "choose another --rows") from error


def check_rows(path: Path) -> None:
    """Raises OptionError where rows cannot be added: the place cannot be written, or holds something else."""
    check_file(path, "--rows", ours=lambda path: any(map(_row_of, split(path.read_bytes()))), parents=True)


def read(path: Path) -> list[Row]:
    """Rows of a file: of those that measured the same thing the last, and none that says a measured cell was not."""
    try:
        lines = split(path.read_bytes())
    except OSError as error:
        raise OptionError(f"cannot read {path}", reason(error), "run the benchmark first") from error
    latest: dict[tuple[Any, ...], Row] = {}
    for one in filter(None, map(_row_of, lines)):
        latest[one["cell"], one["variant"], one["part"], one["device"]] = one
    measured = {one["cell"] for one in latest.values() if _says_something(one)}
    return [one for one in latest.values() if _says_something(one) or one["cell"] not in measured]


def _says_something(one: Row) -> bool:
    """Whether it is more than a note that something was not measured."""
    return one["median_ms"] is not None or one.get("cache_mib") is not None or one.get("accuracy") is not None


def _row_of(line: bytes) -> Row | None:
    """None for a line that is no row: one of a run that was stopped while it wrote, or that was damaged since."""
    try:
        one = read_object(line)
    except ValueError:
        return None
    whole = all(isinstance(one.get(name), str) for name in TEXTS) and all(_is_number(one.get(name)) for name in NUMBERS)
    figures = all(name in one and (one[name] is None or _is_number(one[name])) for name in FIGURES)
    return one if whole and figures and _is_readable(one) else None


def _is_readable(one: Row) -> bool:
    """Whether what only some rows have can be shown."""
    optional = ("peak_mib", "kv_bytes", "patches_share", "cosine_mean", "cosine_p05", *STREAM_NUMBERS)
    numbers = [one.get(name) for name in optional] + _list(one.get("times_ms"))
    texts = [one.get("note"), one.get("policy"), one.get("age"), *_list(one.get("steps"))]
    profile = one.get("profile")
    return (
        all(number is None or _is_number(number) for number in numbers)
        and all(text is None or isinstance(text, str) for text in texts)
        and ("steps" not in one or "tokens_per_layer" in one)
        and all(isinstance(line, list) and tuple(map(type, line)) == ANSWER for line in _list(one.get("answers")))
        and (not one.get("answers") or {"policy", "seed"} <= one.keys())
        and (profile is None or (isinstance(profile, dict) and {"median", "p5", "p95"} <= profile.keys()))
    )


def _list(value: Any) -> list[Any]:
    """Parts of a list; nothing is a list of none, and anything else no list of numbers or texts."""
    return [] if value is None else value if isinstance(value, list) else [{}]


def _is_number(value: Any) -> bool:
    return is_number(value) and math.isfinite(value)


def of_cells(rows: Iterable[Row], names: Collection[str]) -> list[Row]:
    """Rows whose cell still exists; a file keeps those of earlier ones too. Clips of the tower and policies of
    streams are anybody's.
    """
    return [one for one in rows if one["cell"] in names or one["kind"] in ("tower", "stream")]
