"""Attention of a few query rows, computed apart so that the main path may use any kernel."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor


def attention_map(query: Tensor, key: Tensor, visible: Tensor, scale: float, softcap: float | None = None) -> Tensor:
    """Softmax attention of R query rows over S keys, per head; keys are not repeated for grouped heads.

    query: (H, R, d). key: (H_kv, S, d) with H a multiple of H_kv. visible: (R, S) bool. Returns (H, R, S) float32; a
    row that sees nothing is zero.
    """
    heads, rows, width = query.shape
    grouped = query.reshape(key.shape[0], -1, width).to(torch.float32)
    logits = torch.matmul(grouped, key.to(torch.float32).transpose(-1, -2)) * scale
    logits = logits.view(heads, rows, -1)
    if softcap is not None:
        logits = softcap * torch.tanh(logits / softcap)
    logits = logits.masked_fill(~visible, float("-inf"))
    return logits.softmax(-1).nan_to_num(0.0)


def attention_rows(query: Tensor, key: Tensor, visible: Tensor, scale: float, softcap: float | None = None) -> Tensor:
    """`attention_map` averaged over heads: (R, S)."""
    return attention_map(query, key, visible, scale, softcap).mean(0)
