"""Attention masks of a reduced layer, cut from the mask the model built for the whole prompt.

The model believes in prompt columns, because a reduced cache reports them. Whatever mask it builds (causal, sliding
window in original distance, bidirectional image blocks) therefore holds for every layer; a reduced layer reads the rows
of its query slots and the columns of its stored keys from it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

    from framefusion.intercept.keys import Keys


def cut_mask(mask: Tensor | None, queries: Keys, keys: Keys, total: int, query_length: int) -> Tensor | None:
    """The mask of one attention call on short sequences.

    mask: what the model hands the layer: (B or 1, H or 1, query_length, M), (B, M), or None for plain causal attention.
        Its M columns end at prompt column `total`; a 2-D one of the call's own columns stays one.
    queries, keys: slots of the call, in columns counted from the beginning of the cache.
    """
    if mask is None:
        return _causal(queries, keys)
    if mask.ndim == 2 and mask.shape[1] == query_length < total:
        return _cut_padding(mask, queries, total)
    if mask.ndim == 2:
        return _cut_padding(mask, keys, total)
    return _cut_full(mask, queries, keys, total, query_length)


def _causal(queries: Keys, keys: Keys) -> Tensor | None:
    """None wherever the kernels' own causal rule is right, else an explicit (B, 1, Q, S) mask."""
    rectangular = 1 < queries.length < keys.length
    if keys.valid is None and not rectangular:
        return None
    seen = keys.columns[:, None, :] <= queries.columns[:, :, None]
    if keys.valid is not None:
        seen = seen & keys.valid[:, None, :]
    return seen[:, None]


def _cut_padding(mask: Tensor, keys: Keys, total: int) -> Tensor:
    index = keys.columns.to(mask.device) - (total - mask.shape[1])
    rows = mask.expand(index.shape[0], -1).gather(1, index.clamp(min=0))
    visible = index >= 0
    if keys.valid is not None:
        visible = visible & keys.valid.to(mask.device)
    return rows * visible.to(rows.dtype) if rows.dtype != torch.bool else rows & visible


def _cut_full(mask: Tensor, queries: Keys, keys: Keys, total: int, query_length: int) -> Tensor:
    batch = queries.columns.shape[0]
    mask = mask.expand(batch, -1, -1, -1)
    row = queries.columns.to(mask.device) - (total - query_length)
    column = keys.columns.to(mask.device) - (total - mask.shape[-1])
    heads = mask.shape[1]
    mask = mask.gather(2, row[:, None, :, None].expand(-1, heads, -1, mask.shape[-1]))
    mask = mask.gather(3, column.clamp(min=0)[:, None, None, :].expand(-1, heads, mask.shape[2], -1))
    hidden = column < 0
    if keys.valid is not None:
        hidden = hidden | ~keys.valid.to(mask.device)
    fill = False if mask.dtype == torch.bool else torch.finfo(mask.dtype).min
    return mask.masked_fill(hidden[:, None, None, :], fill)
