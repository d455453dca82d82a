"""Recorded inputs and outputs of the published functions behind the methods, run against the library."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from framefusion.core.errors import FrameFusionError
from framefusion.testing.findings import Findings, Result
from framefusion.testing.published import clips, decoder, pictures, windows
from framefusion.testing.published.cases import Case, notes_of
from framefusion.testing.published.differences import CHOICES

INDEX = "index.json"

CHECKS: Mapping[str, Callable[[Case, Findings], None]] = {
    check.__name__: check
    for check in (
        pictures.visionzip,
        pictures.fastervlm,
        pictures.vispruner,
        pictures.divprune,
        pictures.cdpruner,
        pictures.holov,
        pictures.tome,
        pictures.adaptprune,
        clips.vidcom2,
        clips.dycoke,
        clips.evs,
        windows.holitom_outer,
        clips.fastvid,
        clips.prunevid,
        clips.scissor,
        clips.sttm,
        decoder.fastv,
        decoder.pyramiddrop,
        decoder.sparsevlm,
        decoder.dart,
        decoder.holitom,
    )
}


def has_methods(folder: Path) -> bool:
    return (folder / INDEX).is_file()


def run_methods(folder: Path) -> Iterator[Result]:
    """Every case that `index.json` in `folder` names: {"methods": {name: {"tensors", "cases": {case: ...}}}}."""
    for method, entry in json.loads((folder / INDEX).read_text())["methods"].items():
        for name, case in entry["cases"].items():
            title = f"{method}_{name}"
            if method not in CHECKS:
                yield Result(title, "method", float("nan"), covered=False)
                continue
            yield _run(folder, title, method, case, notes_of(name, case, entry.get("tensors", "")))


def _run(folder: Path, title: str, method: str, entry: Mapping[str, Any], notes: tuple[str, ...]) -> Result:
    from safetensors.torch import load_file

    found = Findings()
    try:
        CHECKS[method](Case(entry["options"], load_file(folder / entry["file"]), notes), found)
        undeclared = sorted(set(found.choices) - set(CHOICES.get(method, ())))
        found.true(f"differences that nobody declared: {undeclared}", not undeclared)
    except (FrameFusionError, OSError, LookupError, RuntimeError, ValueError) as error:
        return Result(title, "method", float("inf"), f"{type(error).__name__}: {error}")
    return Result(title, "method", *found.result(), choices=tuple(found.choices.items()))
