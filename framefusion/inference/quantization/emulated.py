"""SageAttention's arithmetic, plainly: whole numbers of 8 bits for queries and keys, half precision for the rest.

K smoothing: the keys' mean over the sequence is taken off, which adds the same number to all logits of a query and so
changes no probability, but leaves a smaller range to quantise (https://arxiv.org/abs/2410.02367).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from framefusion.inference.quantization.rounding import symmetric

if TYPE_CHECKING:
    from torch import Tensor

# Rows of queries, and of keys, that share a scale in the published kernel.
QUERY_BLOCK, KEY_BLOCK = 128, 64


def emulated_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None = None,
    scale: float | None = None,
    causal: bool = False,
    smooth: bool = True,
) -> Tensor:
    """Attention whose product of queries and keys is one of 8-bit integers.

    query: (B, H, Q, d). key, value: (B, H_kv, S, d) with H a multiple of H_kv. mask: (B or 1, 1 or H, Q, S), True where
    seen or added to the logits. causal: the last query sees all keys, each earlier one a key less. smooth: take the
    keys' mean off first. Returns (B, H, Q, d) in the type of `query`.

    Probabilities and values are rounded to float16, their products added up in float32.
    """
    grouped = query.shape[1] // key.shape[1]
    if smooth:
        key = key.to(torch.float32) - key.to(torch.float32).mean(2, keepdim=True)
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    queries, query_scale = symmetric(query.to(torch.float32) * scale, QUERY_BLOCK)
    keys, key_scale = (part.repeat_interleave(grouped, 1) for part in symmetric(key, KEY_BLOCK))
    # Sums of products of two 8-bit numbers stay far below 2**24, so float32 holds them exactly.
    logits = (queries @ keys.transpose(-1, -2)) * query_scale * key_scale.transpose(-1, -2)
    if causal:
        mask = torch.ones(logits.shape[-2:], dtype=torch.bool, device=logits.device).tril(key.shape[2] - query.shape[2])
    if mask is not None:
        logits = logits.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else logits + mask
    # A row that sees nothing stands for padding; its answer is not read, but must be a number.
    exponents = (logits - logits.amax(-1, keepdim=True).clamp(min=torch.finfo(torch.float32).min)).exp()
    total = exponents.sum(-1, keepdim=True).clamp(min=torch.finfo(torch.float32).tiny)
    values = value.to(torch.float16).to(torch.float32).repeat_interleave(grouped, 1)
    return (exponents.to(torch.float16).to(torch.float32) @ values / total).to(query.dtype)
