"""Simulated quantisation: values rounded to what so many bits could have stored."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

# What a group stores beside its values: its least value and its step, each in 16 bits.
BITS_PER_GROUP = 32


def round_trip(values: Tensor, bits: int, group: int | None = None) -> Tensor:
    """Quantise and restore: every group is rounded to 2**bits even steps from its least to its greatest value.

    values: (..., D). group: neighbours along the last axis that share a step, None for all D; the last group of a row
    may be shorter. Computed in float32; returns values of the shape and type that came.
    """
    width = values.shape[-1]
    size = min(group or width, width)
    missing = -width % size
    # Copies of the last value change neither end of the last group's range.
    whole = torch.cat([values, values[..., -1:].expand(*values.shape[:-1], missing)], -1) if missing else values
    parts = whole.to(torch.float32).unflatten(-1, (-1, size))
    low, high = parts.amin(-1, keepdim=True), parts.amax(-1, keepdim=True)
    step = (high - low) / (2**bits - 1)
    levels = ((parts - low) / step.clamp(min=torch.finfo(torch.float32).tiny)).round()
    return (levels * step + low).flatten(-2)[..., :width].to(values.dtype)


def stored_bytes(count: int, width: int, bits: int, group: int | None = None) -> float:
    """Bytes of `count` values in rows of `width` when quantised so, the groups' own numbers included."""
    size = min(group or width, width)
    groups = count // width * -(-width // size)
    return (count * bits + groups * BITS_PER_GROUP) / 8


def symmetric(values: Tensor, block: int, levels: int = 127) -> tuple[Tensor, Tensor]:
    """Whole numbers and scales of blocks of rows, with zero in the middle.

    values: (..., S, D). block: neighbouring rows, with all their D values, that share a scale. Returns integers
    (..., S, D) in float32 and scales (..., S, 1) float32, such that their product approximates `values`.
    """
    rows = values.shape[-2]
    parts = torch.nn.functional.pad(values.to(torch.float32), (0, 0, 0, -rows % block)).unflatten(-2, (-1, block))
    scale = (parts.abs().amax((-2, -1), keepdim=True) / levels).clamp(min=torch.finfo(torch.float32).tiny)
    whole = (parts / scale).round()
    return whole.flatten(-3, -2)[..., :rows, :], scale.expand(*parts.shape[:-1], 1).flatten(-3, -2)[..., :rows, :]
