"""Products with predecessors and lengths: every token and its predecessor are read once, nothing is copied."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

MOST = 2048
"""Channels a program holds at a time."""


@triton.jit
def _dots_and_norms(hidden, earlier, dot, norm, stride, width, BLOCK: tl.constexpr):
    token = tl.program_id(0).to(tl.int64)
    before = tl.maximum(tl.load(earlier + token), 0)
    product = tl.zeros((BLOCK,), dtype=tl.float32)
    square = tl.zeros((BLOCK,), dtype=tl.float32)
    for first in range(0, width, BLOCK):
        channel = first + tl.arange(0, BLOCK)
        inside = channel < width
        now = tl.load(hidden + token * stride + channel, mask=inside, other=0.0).to(tl.float32)
        then = tl.load(hidden + before * stride + channel, mask=inside, other=0.0).to(tl.float32)
        product += now * then
        square += now * now
    tl.store(dot + token, tl.sum(product, 0))
    tl.store(norm + token, tl.sqrt(tl.sum(square, 0)))


def dots_and_norms(hidden: Tensor, earlier: Tensor) -> tuple[Tensor, Tensor]:
    """hidden: (N, D), channels next to each other. earlier: (N,). Returns (N,) and (N,) float32."""
    count, width = hidden.shape
    dot, norm = (torch.empty(count, dtype=torch.float32, device=hidden.device) for _ in range(2))
    if count:
        block = min(MOST, triton.next_power_of_2(width))
        # Triton launches on the current device, which need not be the one of a layer further back.
        with torch.cuda.device_of(hidden):
            _dots_and_norms[(count,)](hidden, earlier, dot, norm, hidden.stride(0), width, BLOCK=block)
    return dot, norm
