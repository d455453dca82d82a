"""Weighted sums of rows: every survivor adds up its own rows, in their order, so that no run differs from another."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import triton
import triton.language as tl

if TYPE_CHECKING:
    from torch import Tensor

    from framefusion.core.ops.weighted import Sums

MOST = 1024
"""Channels a program makes."""


@triton.jit
def _weighted_rows(values, source, weight, starts, made, stride, width, BLOCK: tl.constexpr):
    number = tl.program_id(0).to(tl.int64)
    channel = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = channel < width
    total = tl.zeros((BLOCK,), dtype=tl.float32)
    for entry in range(tl.load(starts + number), tl.load(starts + number + 1)):
        row = tl.load(source + entry)
        value = tl.load(values + row * stride + channel, mask=inside, other=0.0).to(tl.float32)
        total += tl.load(weight + entry) * value
    tl.store(made + number * width + channel, total.to(made.dtype.element_ty), mask=inside)


def weighted_rows(values: Tensor, sums: Sums, made: Tensor | None = None) -> Tensor:
    """values: (M, D), channels next to each other. Returns (K, D) of the same type, or `made`, of any, filled."""
    width = values.shape[1]
    made = values.new_empty(sums.count, width) if made is None else made
    if made.numel():
        block = min(MOST, triton.next_power_of_2(width))
        grid = (sums.count, triton.cdiv(width, block))
        entries = (sums.source, sums.weight, sums.starts)
        # Triton launches on the current device, which need not be the one of a layer further back.
        with torch.cuda.device_of(values):
            _weighted_rows[grid](values, *entries, made, values.stride(0), width, BLOCK=block)
    return made
