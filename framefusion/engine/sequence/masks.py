"""Attention masks of a reduced layer, cut from the mask the model built for the whole prompt.

The model believes in prompt columns, because a reduced cache reports them. Whatever mask it builds (causal, sliding
window in original distance, bidirectional image blocks) therefore holds for every layer; a reduced layer reads the rows
of its query slots and the columns of its stored keys from it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from torch import Tensor

    from framefusion.engine.sequence.key_index import KeyIndex


def cut_mask(mask: Any, queries: KeyIndex, keys: KeyIndex, total: int, query_length: int, flash: bool = False) -> Any:
    """The mask of one attention call on short sequences.

    mask: what the model hands the layer: (B or 1, H or 1, query_length, M), (B, M), flex attention's BlockMask of
        query_length x M, or None for plain causal attention. Its M columns end at prompt column `total`; a 2-D one of
        the call's own columns stays one.
    queries, keys: slots of the call, in columns counted from the beginning of the cache.
    flash: the kernel is causal by itself and knows masks (B, S) of padding only.
    """
    if mask is None:
        return keys.valid if flash else _causal(queries, keys)
    if is_block_mask(mask):
        return _cut_blocks(mask, queries, keys, total, query_length)
    if mask.ndim == 2 and mask.shape[1] == query_length < total:
        return _cut_padding(mask, queries, total)
    if mask.ndim == 2:
        return _cut_padding(mask, keys, total)
    return _cut_full(mask, queries, keys, total, query_length)


def is_block_mask(mask: Any) -> bool:
    """Whether this is a mask of flex attention, whose rule is a function."""
    return hasattr(mask, "mask_mod")


def as_boolean(mask: Tensor) -> Tensor:
    """True where a boolean or an additive mask lets a query see a key."""
    return mask if mask.dtype == torch.bool else mask > torch.finfo(mask.dtype).min / 2


def _causal(queries: KeyIndex, keys: KeyIndex) -> Tensor | None:
    """None wherever the kernels' own causal rule is right, else an explicit (B, 1, Q, S) mask."""
    rectangular = 1 < queries.length < keys.length
    if keys.valid is None and not rectangular:
        return None
    seen = keys.columns[:, None, :] <= queries.columns[:, :, None]
    if keys.valid is not None:
        seen = seen & keys.valid[:, None, :]
    return seen[:, None]


def _cut_padding(mask: Tensor, keys: KeyIndex, total: int) -> Tensor:
    index = keys.columns.to(mask.device) - (total - mask.shape[1])
    rows = mask.expand(index.shape[0], -1).gather(1, index.clamp(min=0))
    visible = index >= 0
    if keys.valid is not None:
        visible = visible & keys.valid.to(mask.device)
    return rows * visible.to(rows.dtype) if rows.dtype != torch.bool else rows & visible


def _cut_full(mask: Tensor, queries: KeyIndex, keys: KeyIndex, total: int, query_length: int) -> Tensor:
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


def _cut_blocks(mask: Any, queries: KeyIndex, keys: KeyIndex, total: int, query_length: int) -> Any:
    from torch.nn.attention.flex_attention import create_block_mask

    device = mask.kv_indices.device
    row = queries.columns.to(device) - (total - query_length)
    column = keys.columns.to(device) - (total - mask.seq_lengths[1])
    visible = column >= 0 if keys.valid is None else (column >= 0) & keys.valid.to(device)
    rule = _on_columns(mask.mask_mod, row, column.clamp(min=0), visible)
    return create_block_mask(rule, row.shape[0], None, queries.length, keys.length, device=device)


def _on_columns(rule: Callable, row: Tensor, column: Tensor, visible: Tensor) -> Callable:
    """The model's rule, asked about the columns that the slots of the short sequences had in the prompt."""

    def rule_of_slots(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return visible[batch, key] & rule(batch, head, row[batch, query], column[batch, key])

    return rule_of_slots
