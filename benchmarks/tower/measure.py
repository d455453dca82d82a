"""All parts of one clip: the way from the file to the answer, the decision, fidelity, and memory of the still one."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch

import framefusion as ff
from benchmarks.cells import Cell
from benchmarks.peak import peak_here
from benchmarks.shapes import FRAMES_PER_STEP, MERGE, PATCH
from benchmarks.timing import Spread, take_turns
from benchmarks.tower import clips, fidelity, memory, runs
from benchmarks.tower.model import build
from benchmarks.trials import dtype_of

Found = tuple[str, str, Spread | None, dict[str, Any]]
"""Variant, part, time, and what else its row says."""
TOWER, WHOLE, DECISION = "tower", "end_to_end", "decision"


def measured(cell: Cell, device: torch.device, tick: Callable[[str], Any]) -> Iterator[Found]:
    """Rows of one clip. What does not depend on the device, fidelity, is measured on a CPU alone."""
    with tempfile.TemporaryDirectory() as folder:
        path = path_of(cell, Path(folder))
        if cell.clip == clips.FADE:
            yield from _fidelity(cell, path, tick)
            return
        yield from _way(cell, path, device, tick)
        if device.type == "cuda":
            return
        if cell.clip == clips.STILL:
            yield from _memory(tick)
        else:
            yield from _fidelity(cell, path, tick)


def path_of(cell: Cell, folder: Path) -> Path:
    """The cell's file, or that which its clip is made of; the still one is written to `folder`."""
    found = clips.files(Path(cell.videos))
    if cell.clip == clips.FADE:
        return next(iter(found.values()))
    if cell.clip != clips.STILL:
        return found[cell.clip]
    path = folder / f"{clips.STILL}.mp4"
    clips.write_still(next(iter(found.values())), path, cell.frames * FRAMES_PER_STEP)
    return path


def frames_of(cell: Cell) -> tuple[int, int]:
    """Frames of the file, and pixels along a side."""
    return cell.frames * FRAMES_PER_STEP, round(cell.patches**0.5) * MERGE * PATCH


def _way(cell: Cell, path: Path, device: torch.device, tick: Callable[[str], Any]) -> Iterator[Found]:
    tick("building the model")
    language = ff.TemporalWard(keep=cell.cost)
    methods: dict[str, ff.Method | None] = {
        runs.DENSE: None,
        runs.LANGUAGE: language,
        runs.REDUCED: ff.Chain(ff.PixelDedup(), language),
    }
    model = build(cell.shape, cell.layers, cell.tower_blocks, dtype_of(cell), device)
    trial = runs.Trial(model, path, *frames_of(cell), cell.decode, methods)
    times = take_turns(trial.runs(), cell.repeats, tick)
    for variant, parts in times.items():
        facts = trial.facts[variant]
        split = {part: Spread.of(found).median_ms for part, found in parts.items() if part != runs.WHOLE}
        yield variant, WHOLE, Spread.of(parts[runs.WHOLE]), {**facts, "split_ms": split}
        yield variant, TOWER, Spread.of(parts[runs.TOWER]), facts
        if runs.DECIDE in parts:
            yield variant, DECISION, Spread.of(parts[runs.DECIDE]), facts
        if device.type == "cuda":
            peak = peak_here(partial(trial.run, variant), device)
            yield variant, memory.MEMORY, Spread.of(parts[runs.WHOLE]), {**facts, "peak_mib": peak}


def _fidelity(cell: Cell, path: Path, tick: Callable[[str], Any]) -> Iterator[Found]:
    tick("trained weights")
    weights = fidelity.weights_in(Path(cell.weights) if cell.weights else None)
    if weights is None:
        note = "not measured: no trained weights; run `python -m scripts.trained_vit FOLDER` and give it as --weights"
        yield runs.REDUCED, fidelity.FIDELITY, None, {"note": note}
        return
    frames, side = frames_of(cell)
    if cell.clip == clips.FADE:
        clip = clips.faded(path)
        trial = fidelity.Trial(weights, clip, min(side, fidelity.FADE_SIDE), from_frame=len(clip) - 1)
    else:
        trial = fidelity.Trial(weights, clips.load(path, frames), min(side, fidelity.SIDE))
    for variant, parts in take_turns(trial.runs(), 1, tick, warm=True).items():
        yield variant, fidelity.FIDELITY, Spread.of(parts[fidelity.FIDELITY]), trial.facts[variant]


def _memory(tick: Callable[[str], Any]) -> Iterator[Found]:
    for frames in (memory.FEW, memory.MANY):
        for variant in memory.VARIANTS:
            tick(f"memory, {variant}, {frames} frames")
            laps, peak = memory.peak_apart(frames, variant)
            name = f"{variant}, {frames} frames"
            yield name, memory.MEMORY, Spread.of([laps[memory.MEMORY]]), {"peak_mib": peak}
