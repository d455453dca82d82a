"""Rows that hold several samples, one after the other, and by which of its inputs a call tells."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

from framefusion.core.errors import PackedRowsError
from framefusion.engine.sequence.masks import as_boolean, is_block_mask

if TYPE_CHECKING:
    from torch import Tensor

    from framefusion.core.layout import Layout

BORDERS = ("cu_seq_lens_q", "cu_seq_lens_k")
NUMBERS = "seq_idx"
FULL = "full_attention"


def refuse_packed_rows(given: Mapping[str, Any], layout: Layout, real: Tensor | None) -> None:
    """Raises PackedRowsError if a row of the call holds several samples.

    given: inputs of the call, where not only masks and positions but also the borders of samples may be. real: (B, L)
    False where the call's columns are padding.
    """
    batch, length = len(layout.rows), layout.length
    mask = given.get("attention_mask")
    if isinstance(mask, dict):
        mask = mask.get(FULL)
    reasons = {
        "their borders come with them": any(_has_borders(given.get(name), batch) for name in BORDERS),
        "its columns are numbered by sample": _is_numbered(given.get(NUMBERS)) or _numbers_samples(mask),
        "its positions start again": _starts_again(given.get("position_ids"), layout, real),
        "its attention mask separates them": _is_separated(mask, batch, length, real),
    }
    for reason, holds in reasons.items():
        if holds:
            raise PackedRowsError(
                "a row with several samples cannot be reduced",
                f"{reason}, and one sample's question would choose the tokens of all",
                "give every sample a row of its own and pad the batch",
            )


def _has_borders(borders: Any, batch: int) -> bool:
    return isinstance(borders, torch.Tensor) and borders.unique().numel() - 1 > batch


def _is_numbered(numbers: Any) -> bool:
    return isinstance(numbers, torch.Tensor) and bool((numbers != numbers[..., :1]).any())


def _numbers_samples(mask: Any) -> bool:
    """Trainers number the samples of a row in its padding mask; the model reads no more than zero and not zero."""
    whole = isinstance(mask, torch.Tensor) and mask.ndim == 2 and not mask.is_floating_point()
    return whole and mask.dtype != torch.bool and bool((mask > 1).any())


def _starts_again(positions: Any, layout: Layout, real: Tensor | None) -> bool:
    """positions: (L,), (B or 1, L), or with planes (P, B or 1, L).

    One plane counts upwards. With several (M-RoPE), those of height, width and time go back within a sample, but no
    text is where the sample began in all of them; nor does the plane of text in front of the three go back there.
    """
    if not isinstance(positions, torch.Tensor) or positions.shape[-1] != layout.length:
        return False
    planes = positions if positions.ndim == 3 else positions.reshape(1, -1, layout.length)
    for row, values in enumerate(planes.unbind(1)):
        here = torch.ones_like(values[0], dtype=torch.bool) if real is None else real[row].to(values.device)
        text = here.clone()
        text[layout.rows[row][1].columns.to(text.device)] = False
        values, text = values[:, here], text[here][1:]
        back, begins = values[0, 1:] < values[0, :-1], values[:, 1:] <= values[:, :1]
        # Padding that a mask too long makes visible stays where it is; a sample has left its first position.
        left = (values[:, :-1] > values[:, :1]).any(0).cumsum(0) > 0
        restarts = text & begins.all(0) & left
        again = back if len(values) == 1 else restarts | (back & begins[0] if len(values) > 3 else False)
        if bool(again.any()):
            return True
    return False


def _is_separated(mask: Any, batch: int, length: int, real: Tensor | None) -> bool:
    """Whether some column of a full attention mask does not see the one in front of it, though neither is padding."""
    column = torch.arange(1, length, device=None if real is None else real.device)
    if is_block_mask(mask) and mask.seq_lengths[1] == length:
        device = mask.kv_indices.device
        rows = torch.arange(mask.kv_indices.shape[0], device=device)[:, None]
        sees = mask.mask_mod(rows, rows * 0, column.to(device)[None], column.to(device)[None] - 1)
    elif isinstance(mask, torch.Tensor) and mask.ndim == 4 and mask.shape[-2] == length <= mask.shape[-1]:
        before = torch.diagonal(mask[:, 0, 1:, -length:-1], dim1=-2, dim2=-1)
        sees = as_boolean(before)
    else:
        return False
    apart = ~sees.expand(batch, -1)
    if real is not None:
        apart = apart & (real[:, 1:] & real[:, :-1]).to(apart.device)
    return bool(apart.any())
