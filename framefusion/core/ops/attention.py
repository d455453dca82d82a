"""Attention of a few query rows, computed apart so that the main path may use any kernel, and which words ask."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

KEYS_AT_A_TIME = 4096


def attention_map(
    query: Tensor,
    key: Tensor,
    visible: Tensor,
    scale: float,
    softcap: float | None = None,
    weight: Tensor | None = None,
) -> Tensor:
    """Softmax attention of R query rows over S keys, per head; keys are not repeated for grouped heads.

    query: (H, R, d). key: (H_kv, S, d) with H a multiple of H_kv. visible: (R, S) bool. weight: (S,) added to
    the logits. Returns (H, R, S) float32; a row that sees nothing is zero.
    """
    heads, rows, width = query.shape
    grouped = query.reshape(key.shape[0], heads * rows // key.shape[0], width).to(torch.float32)
    # Piece by piece, so that no second copy of all keys is made.
    pieces = [grouped @ piece.to(torch.float32).transpose(-1, -2) for piece in key.split(KEYS_AT_A_TIME, dim=1)]
    logits = torch.cat(pieces, -1).view(heads, rows, key.shape[1]) * scale
    if softcap is not None:
        logits = softcap * torch.tanh(logits / softcap)
    if weight is not None:
        logits = logits + weight
    logits = logits.masked_fill(~visible, float("-inf"))
    return logits.softmax(-1).nan_to_num(0.0)


def received_attention(query: Tensor, key: Tensor, scale: float, block: int = 512) -> Tensor:
    """How much attention each key receives in a bidirectional attention, averaged over heads and queries.

    query, key: (H, P, d). block: queries per piece, a bound on memory. Returns (P,) float32.
    """
    total = torch.zeros(key.shape[1], dtype=torch.float32, device=key.device)
    for piece in query.split(block, dim=1):
        everything = torch.ones(piece.shape[1], key.shape[1], dtype=torch.bool, device=key.device)
        total += attention_map(piece, key, everything, scale).sum((0, 1))
    return total / (query.shape[0] * query.shape[1])


def text_raters(visual: Tensor, text: Tensor) -> Tensor:
    """(M,) bool, the words that visual tokens resemble more than they do the average word (SparseVLM).

    visual: (N, D). text: (M, D). A token spreads its resemblance over the words by a softmax of their products. All
    words rate when none stands out.
    """
    resemblance = (visual.to(torch.float32) @ text.to(torch.float32).T).softmax(1).mean(0)
    raters = resemblance > resemblance.mean()
    return raters if bool(raters.any()) else torch.ones_like(raters)


def question_rows(text: Tensor, asks: Tensor) -> Tensor:
    """Rows of `text` (M, ...) after the last visual token, all of them when none is. asks: (M,) bool."""
    return text[asks.to(text.device)] if bool(asks.any()) else text
