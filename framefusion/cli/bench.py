"""`framefusion bench`: time and memory, dense, reduced and with the removed tokens gone for free."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import framefusion
from framefusion.cli.console import JSON_OPTION, err, note, print_json, quiet_libraries, say
from framefusion.core.destination import check_apart
from framefusion.core.errors import MissingPackageError
from framefusion.core.text import cell

if TYPE_CHECKING:
    import torch

REPOSITORY = Path(framefusion.__file__).parent.parent
ROWS = "benchmark-rows.jsonl"


PresetOption = Annotated[
    str,
    typer.Option(
        help="cpu (ten minutes on two cores), growth (frames 8 to 512), gpu, files (reading long videos), tower "
        "(patches that enter the vision tower), or stream (an hour of video in constant memory)."
    ),
]
WeightsOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FOLDER",
        help="Trained tower that `python -m scripts.trained_vit FOLDER` wrote, for the preset tower; by default it is "
        "downloaded once.",
    ),
]


def bench(
    preset: PresetOption = "cpu",
    only: Annotated[str, typer.Option(help="Only cells whose name contains this.")] = "",
    rows: Annotated[Path, typer.Option(metavar="FILE.jsonl", help="Append the rows to this file.")] = Path(ROWS),
    show: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Make tables.md, figures and page.html from the rows of the file."),
    ] = None,
    videos: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Clips of the preset tower.")] = None,
    weights: WeightsOption = None,
    threads: Annotated[int | None, typer.Option(min=1, max=1024, help="CPU threads.")] = None,
    json: Annotated[bool, JSON_OPTION] = False,
) -> None:
    """Measure prefill, decode, decision and memory: dense, reduced, and the limit that removes tokens for free.

    Needs a checkout of the repository, where the benchmarks live. Where a preset asks for a GPU and there is none, its
    rows say "not measured".

    Example: framefusion bench --preset cpu --show benchmarks/results
    """
    quiet_libraries()
    _open_benchmarks()
    import torch

    from benchmarks.rows import append, check_rows
    from benchmarks.run import chosen, measure
    from benchmarks.show import NAMES, check_shown

    if threads is not None:
        torch.set_num_threads(threads)
    check_rows(rows)
    if show is not None:
        check_shown(show)
        check_apart({"--rows": rows, **{f"{name} of --show": show / name for name in NAMES}})
    cells = chosen(preset, only, videos, weights)
    found: list[dict[str, Any]] = []
    with err.status("starting") as status:
        groups = measure(preset, _device(preset), lambda text: status.update(cell(text)), only, videos, weights)
        for group in groups:
            append(rows, group)
            found += group
            note(f"{len(found)} rows, {group[0]['cell']} is done ({_position(group, cells)})")
    if show is not None:
        _show(rows, show)
    if json:
        print_json({"preset": preset, "rows_file": str(rows), "rows": found, **_summary(preset, found)})
    else:
        from benchmarks.show import tables

        say(tables(found))


def _show(rows: Path, folder: Path) -> None:
    from benchmarks.cells import names
    from benchmarks.rows import of_cells, read
    from benchmarks.show import show_all

    show_all(of_cells(read(rows), names()), folder)
    note(f"tables, figures and page in {folder}")


def _summary(preset: str, found: list[dict[str, Any]]) -> dict[str, Any]:
    """What the rows of streams come to."""
    from benchmarks.stream.measure import summary

    return {"summary": summary(found)} if preset == "stream" else {}


def _position(group: list[dict[str, Any]], cells: Any) -> str:
    names = [cell.name for cell in cells]
    return f"{names.index(group[0]['cell']) + 1} of {len(names)}"


def _device(preset: str) -> torch.device | None:
    """Where the preset runs, None where that is not at hand."""
    import torch

    if preset != "gpu":
        return torch.device("cpu")
    return torch.device("cuda") if torch.cuda.is_available() else None


def _open_benchmarks() -> None:
    # Beside an installed package, a folder of this name is somebody else's.
    if not all((REPOSITORY / part).exists() for part in ("pyproject.toml", "benchmarks/run.py")):
        raise MissingPackageError(
            "`framefusion bench` needs a checkout of the repository",
            "the benchmarks live there, beside the package, and are not installed with it",
            "clone it, `pip install -e .` there, and run the command again",
        )
    if str(REPOSITORY) not in sys.path:
        sys.path.insert(0, str(REPOSITORY))
    importlib.import_module("benchmarks")
