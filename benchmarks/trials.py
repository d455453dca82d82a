"""From a cell to what is measured."""

from __future__ import annotations

from typing import Any

import torch

import framefusion as ff
from benchmarks.batch import BatchTrial
from benchmarks.cells import THRESHOLD, Cell
from benchmarks.inputs import make_prompt
from benchmarks.merge import MergeTrial
from benchmarks.oracle import Cut
from benchmarks.shapes import TEXTS, build
from benchmarks.variants import Trial
from framefusion.inference.quantization.apply import quantize
from framefusion.inference.quantization.precision import Precision


def dtype_of(cell: Cell) -> torch.dtype:
    return getattr(torch, cell.dtype)


def model_of(cell: Cell, device: torch.device) -> Any:
    """The cell's model, its attention in the cell's precision. Raises FrameFusionError where that cannot be had."""
    model = build(cell.shape, cell.layers, dtype_of(cell), device, cell.tower_blocks)
    if cell.attention:
        quantize(model, Precision(attention=cell.attention))
    return model


def method_of(cell: Cell) -> ff.FrameFusion:
    return ff.FrameFusion(cost=cell.cost, similarity_lower_bound=THRESHOLD)


def trial_of(cell: Cell, model: Any, device: torch.device, cuts: list[Cut] | None = None) -> Trial:
    """cuts: of the oracle, where they are known already."""
    prompt = make_prompt(cell.frames, cell.patches, TEXTS[cell.shape].width, dtype_of(cell), device)
    return Trial(model, prompt, method_of(cell), cell.decode, device, cuts)


def batch_trial_of(cell: Cell, model: Any, device: torch.device) -> BatchTrial:
    return BatchTrial(cell, model, method_of(cell), dtype_of(cell), device)


def merge_trial_of(cell: Cell, device: torch.device) -> MergeTrial:
    return MergeTrial(cell, method_of(cell), dtype_of(cell), device)
