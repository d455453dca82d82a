"""Results as rows: one line of JSON each, with what is needed to read them later."""

from __future__ import annotations

import json
import platform
import subprocess
from collections.abc import Collection, Iterable, Mapping
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any

import torch

from benchmarks.timing import Spread
from framefusion.errors import OptionError

ROOT = Path(__file__).parent
NOT_MEASURED = "not measured"
Row = dict[str, Any]


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
    """Add rows to a file; what is in it stays."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(one) + "\n" for one in rows)
    except OSError as error:
        raise OptionError(f"cannot write {path}", error.strerror or str(error), "choose another --rows") from error


def read(path: Path) -> list[Row]:
    """Rows of a file: of those that measured the same thing the last, and none that says a measured cell was not."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise OptionError(f"cannot read {path}", error.strerror or str(error), "run the benchmark first") from error
    latest: dict[tuple[Any, ...], Row] = {}
    for line in lines:
        try:
            one = json.loads(line)
        except ValueError:  # a run that was stopped while it wrote
            continue
        latest[one["cell"], one["variant"], one["part"], one["device"]] = one
    measured = {one["cell"] for one in latest.values() if one["median_ms"] is not None}
    return [one for one in latest.values() if one["median_ms"] is not None or one["cell"] not in measured]


def of_cells(rows: Iterable[Row], names: Collection[str]) -> list[Row]:
    """Rows whose cell still exists; a file keeps those of earlier ones too."""
    return [one for one in rows if one["cell"] in names]
