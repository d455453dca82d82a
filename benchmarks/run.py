"""From cells to rows."""

from __future__ import annotations

import gc
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

import framefusion as ff
from benchmarks.batch import BatchTrial
from benchmarks.cells import PRESETS, Cell
from benchmarks.inputs import make_prompt
from benchmarks.merge import MergeTrial
from benchmarks.parts import Tower
from benchmarks.rows import NOT_MEASURED, Row, device_name, provenance, row
from benchmarks.shapes import TEXTS, TOWER_BLOCKS, build
from benchmarks.timing import Spread, peak_mib, take_turns
from benchmarks.variants import ALL, ORACLE, REDUCED, VARIANTS, Trial
from framefusion.errors import OptionError

Tick = Callable[[str], Any]
THRESHOLD = 0.6


def measure(preset: str, device: torch.device | None, tick: Tick, only: str = "") -> Iterator[list[Row]]:
    """Rows of one cell after the other. device: None where the preset's device is not at hand."""
    for cell in chosen(preset, only):
        if device is None:
            yield [row(about(cell, None), variant, "prefill", None, note=NOT_MEASURED) for variant in VARIANTS]
            continue
        tick(cell.name)
        kind = KINDS[cell.kind]
        yield kind(cell, about(cell, device), device, _under(cell.name, tick))
        gc.collect()
        if device.type == "cuda":
            torch.cuda.empty_cache()


def _under(name: str, tick: Tick) -> Tick:
    return lambda what: tick(f"{name}: {what}")


def chosen(preset: str, only: str) -> tuple[Cell, ...]:
    """Cells of a preset whose name contains `only`."""
    if preset not in PRESETS:
        raise OptionError(f"there is no preset {preset!r}", hint=f"choose one of {', '.join(PRESETS)}")
    cells = tuple(cell for cell in PRESETS[preset] if only in cell.name)
    if not cells:
        names = "; ".join(cell.name for cell in PRESETS[preset])
        raise OptionError(f"no cell of {preset!r} is called like {only!r}", hint=f"its cells: {names}")
    return cells


def about(cell: Cell, device: torch.device | None) -> dict[str, Any]:
    """What every row of a cell says."""
    sizes = asdict(cell)
    del sizes["name"], sizes["repeats"]
    depth = {"layers_of_the_model": TEXTS[cell.shape].depth, "blocks_of_the_tower": TOWER_BLOCKS}
    known = {"device": NOT_MEASURED} if device is None else {"device": device_name(device)}
    return {"cell": cell.name, **sizes, **depth, **known, **provenance()}


def _model(cell: Cell, device: torch.device) -> Any:
    return build(cell.shape, cell.layers, getattr(torch, cell.dtype), device, cell.tower_blocks)


def _method(cell: Cell) -> Any:
    return ff.FrameFusion(cost=cell.cost, similarity_lower_bound=THRESHOLD)


def _trial(cell: Cell, device: torch.device, model: Any) -> Trial:
    prompt = make_prompt(cell.frames, cell.patches, TEXTS[cell.shape].width, getattr(torch, cell.dtype), device)
    return Trial(model, prompt, _method(cell), cell.decode, device)


def _prompt(cell: Cell, about: dict[str, Any], device: torch.device, tick: Tick) -> list[Row]:
    tick("building the model")
    return _prompt_rows(_trial(cell, device, _model(cell, device)), cell, about, device, tick)


def _prompt_rows(trial: Trial, cell: Cell, about: dict[str, Any], device: torch.device, tick: Tick) -> list[Row]:
    peaks, runs = {}, trial.runs()
    # The largest comes last: a process keeps some of the memory it has had, which would hide what a smaller one takes.
    for variant in reversed(VARIANTS):
        tick(f"{variant}, memory")
        peaks[variant] = peak_mib(runs[variant], device)
    times = take_turns(runs, cell.repeats, tick, warm=True)
    close = take_turns({name: runs[name] for name in (REDUCED, ORACLE)}, cell.close, tick, warm=True)
    for variant, parts in close.items():
        for part, found in parts.items():
            times[variant][part] += found
    rows = []
    for variant in VARIANTS:
        for part, found in times[variant].items():
            more = {"peak_mib": peaks[variant], **trial.facts[variant]} if part == "prefill" else {}
            rows.append(row(about, variant, part, Spread.of(found), profile=trial.prompt.profile, **more))
    return rows


def _merge(cell: Cell, about: dict[str, Any], device: torch.device, tick: Tick) -> list[Row]:
    trial = MergeTrial(cell, getattr(torch, cell.dtype), device)
    times = take_turns(trial.runs(), cell.repeats, tick)
    return [
        row(about, variant, part, Spread.of(found), **trial.facts)
        for variant, parts in times.items()
        for part, found in parts.items()
    ]


def _batch(cell: Cell, about: dict[str, Any], device: torch.device, tick: Tick) -> list[Row]:
    tick("building the model")
    trial = BatchTrial(cell, _model(cell, device), _method(cell), getattr(torch, cell.dtype), device)
    times = take_turns(trial.runs(), cell.repeats, tick)
    return [
        row(about, variant, part, Spread.of(found), **trial.facts)
        for variant, parts in times.items()
        for part, found in parts.items()
    ]


def _parts(cell: Cell, about: dict[str, Any], device: torch.device, tick: Tick) -> list[Row]:
    tick("building the model")
    model = _model(cell, device)
    rows = _prompt_rows(_trial(cell, device, model), cell, about, device, tick)
    with tempfile.TemporaryDirectory() as folder:
        tower = Tower(cell, model, getattr(torch, cell.dtype), device, Path(folder))
        times = take_turns({ALL: tower.run}, cell.repeats, tick)[ALL]
    return rows + [row(about, ALL, part, Spread.of(found)) for part, found in times.items()]


KINDS = {
    "prompt": _prompt,
    "growth": _prompt,
    "merge": _merge,
    "batch": _batch,
    "parts": _parts,
}
