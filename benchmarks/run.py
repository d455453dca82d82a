"""From cells to rows."""

from __future__ import annotations

import gc
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from benchmarks.batch import BATCHES, BatchTrial
from benchmarks.cells import PRESETS, Cell, cells_of
from benchmarks.oracle import Cut
from benchmarks.parts import Tower
from benchmarks.peak import peak_apart, peak_here
from benchmarks.rows import NOT_MEASURED, Row, device_name, provenance, row
from benchmarks.seek import Reading
from benchmarks.shapes import TEXTS, TOWER_BLOCKS
from benchmarks.timing import Spread, take_turns
from benchmarks.trials import batch_trial_of, dtype_of, merge_trial_of, model_of, trial_of
from benchmarks.variants import ALL, DECIDING, ORACLE, REDUCED, VARIANTS, Trial
from framefusion.core.errors import FrameFusionError, OptionError

Tick = Callable[[str], Any]
HOST_TIME = "the host's time alone, since the queue of the GPU is not emptied for it"


def measure(
    preset: str,
    device: torch.device | None,
    tick: Tick,
    only: str = "",
    videos: Path | None = None,
    weights: Path | None = None,
) -> Iterator[list[Row]]:
    """Rows of one cell after the other. device: None where it is not at hand. Others as for `chosen`."""
    for cell in chosen(preset, only, videos, weights):
        if device is None:
            yield _missing(cell, None, NOT_MEASURED)
            continue
        tick(cell.name)
        yield _rows(cell, device, tick)
        gc.collect()
        if device.type == "cuda":
            torch.cuda.empty_cache()


def _rows(cell: Cell, device: torch.device, tick: Tick) -> list[Row]:
    """Of one cell; where its memory does not suffice, rows that say so, and the next cell has a chance."""
    doing = ["the beginning"]

    def under(what: str) -> None:
        doing.append(what)
        tick(f"{cell.name}: {what}")

    try:
        return KINDS[cell.kind](cell, about(cell, device), device, under)
    except (RuntimeError, MemoryError) as error:
        if not _out_of_memory(error):
            raise
    return _missing(cell, device, f"{NOT_MEASURED}: out of memory at {doing[-1]}")


def _out_of_memory(error: Exception) -> bool:
    # Where a CPU has no memory left, torch raises a plain RuntimeError.
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "can't allocate memory" in str(error)


def _missing(cell: Cell, device: torch.device | None, note: str) -> list[Row]:
    return [row(about(cell, device), variant, "prefill", None, note=note) for variant in VARIANTS]


def chosen(preset: str, only: str, videos: Path | None = None, weights: Path | None = None) -> tuple[Cell, ...]:
    """Cells of a preset whose name contains `only`. videos, weights: folders, for the preset of the tower."""
    if preset not in PRESETS:
        raise OptionError(f"there is no preset {preset!r}", hint=f"choose one of {', '.join(PRESETS)}")
    every = cells_of(preset, videos, weights)
    cells = tuple(cell for cell in every if only in cell.name)
    if not cells:
        names = "; ".join(cell.name for cell in every)
        raise OptionError(f"no cell of {preset!r} is called like {only!r}", hint=f"its cells: {names}")
    return cells


def about(cell: Cell, device: torch.device | None) -> dict[str, Any]:
    """What every row of a cell says."""
    sizes = asdict(cell)
    for name in ("name", "repeats", "videos", "weights"):
        del sizes[name]
    for name in ("clip", "attention", "policy", "memory", "window", "seed"):
        if not sizes[name]:
            del sizes[name]
    depth = {"layers_of_the_model": TEXTS[cell.shape].depth, "blocks_of_the_tower": TOWER_BLOCKS}
    known = {"device": NOT_MEASURED} if device is None else {"device": device_name(device)}
    return {"cell": cell.name, **sizes, **depth, **known, **provenance()}


def _prompt(cell: Cell, about: dict[str, Any], device: torch.device, tick: Tick) -> list[Row]:
    tick("building the model")
    try:
        model = model_of(cell, device)
    except FrameFusionError as error:
        return _missing(cell, device, f"{NOT_MEASURED}: {error.what}; {error.why}")
    return _prompt_rows(trial_of(cell, model, device), cell, about, device, tick)


def _peaks(
    trial: Trial | BatchTrial,
    variants: tuple[str, ...],
    cell: Cell,
    device: torch.device,
    tick: Tick,
    cuts: Sequence[Cut] = (),
) -> dict[str, float | None]:
    """Peak MiB of each variant's prefill. cuts: of the oracle."""
    found: dict[str, float | None] = {}
    runs = trial.runs()
    for variant in variants:
        tick(f"{variant}, memory")
        if device.type == "cuda":
            found[variant] = peak_here(runs[variant], device)
        else:
            found[variant] = peak_apart(cell, variant, cuts if variant == ORACLE else ())
    return found


def _prompt_rows(trial: Trial, cell: Cell, about: dict[str, Any], device: torch.device, tick: Tick) -> list[Row]:
    peaks = _peaks(trial, VARIANTS, cell, device, tick, trial.cuts)
    for variant, run in trial.runs(decode=min(1, cell.decode)).items():
        tick(f"{variant}, warming up")
        run()
    times = take_turns(trial.runs(), cell.repeats, tick, warm=True)
    prefills = trial.runs(decode=0)
    close = take_turns({name: prefills[name] for name in (REDUCED, ORACLE)}, cell.close, tick, warm=True)
    for variant, parts in close.items():
        for part, found in parts.items():
            times[variant][part] += found
    rows = []
    for variant in VARIANTS:
        for part, found in times[variant].items():
            more = {"peak_mib": peaks[variant], **trial.facts[variant]} if part == "prefill" else {}
            if part == DECIDING and device.type == "cuda":
                more["note"] = HOST_TIME
            rows.append(row(about, variant, part, Spread.of(found), profile=trial.prompt.profile, **more))
    return rows


def _merge(cell: Cell, about: dict[str, Any], device: torch.device, tick: Tick) -> list[Row]:
    tick("deciding")
    trial = merge_trial_of(cell, device)
    times = take_turns(trial.runs(), cell.repeats, tick)
    return [
        row(about, variant, part, Spread.of(found), **trial.facts)
        for variant, parts in times.items()
        for part, found in parts.items()
    ]


def _batch(cell: Cell, about: dict[str, Any], device: torch.device, tick: Tick) -> list[Row]:
    tick("building the model")
    trial = batch_trial_of(cell, model_of(cell, device), device)
    peaks = _peaks(trial, BATCHES, cell, device, tick)
    times, rows = take_turns(trial.runs(), cell.repeats, tick), []
    for variant, parts in times.items():
        for part, found in parts.items():
            peak = {"peak_mib": peaks[variant]} if variant in peaks and part.startswith("prefill") else {}
            facts = trial.facts[variant] if part.startswith("prefill") else trial.shared
            rows.append(row(about, variant, part, Spread.of(found), **peak, **facts))
    return rows


def _parts(cell: Cell, about: dict[str, Any], device: torch.device, tick: Tick) -> list[Row]:
    tick("building the model")
    model = model_of(cell, device)
    rows = _prompt_rows(trial_of(cell, model, device), cell, about, device, tick)
    with tempfile.TemporaryDirectory() as folder:
        tower = Tower(cell, model, dtype_of(cell), device, Path(folder))
        times = take_turns({ALL: tower.run}, cell.repeats, tick)[ALL]
    return rows + [row(about, ALL, part, Spread.of(found)) for part, found in times.items()]


def _tower(cell: Cell, about: dict[str, Any], device: torch.device, tick: Tick) -> list[Row]:
    from benchmarks.tower.measure import measured

    return [row(about, variant, part, spread, **facts) for variant, part, spread, facts in measured(cell, device, tick)]


def _stream(cell: Cell, about: dict[str, Any], device: torch.device, tick: Tick) -> list[Row]:
    from benchmarks.stream.measure import asking, watching

    found = watching(cell, tick) if cell.policy else asking(cell, tick)
    # What a row says of itself counts more than what its cell says: streams of many lengths are one cell.
    return [row(about, variant, part, spread) | facts for variant, part, spread, facts in found]


def _seek(cell: Cell, about: dict[str, Any], device: torch.device, tick: Tick) -> list[Row]:
    with tempfile.TemporaryDirectory() as folder:
        tick("writing the file")
        reading = Reading(cell, Path(folder))
        times = take_turns(reading.runs(), cell.repeats, tick)
    return [
        row(about, variant, part, Spread.of(found), **reading.facts)
        for variant, parts in times.items()
        for part, found in parts.items()
    ]


KINDS = {
    "prompt": _prompt,
    "growth": _prompt,
    "merge": _merge,
    "batch": _batch,
    "parts": _parts,
    "seek": _seek,
    "tower": _tower,
    "stream": _stream,
    "questions": _stream,
}
