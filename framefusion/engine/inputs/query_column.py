"""Which column of a decoder call asks: the last one of the prompt, in front of everything that is an answer to it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import torch

from framefusion.engine.model.releases import KEPT_LOGITS

if TYPE_CHECKING:
    from torch import Tensor

    from framefusion.core.layout import Layout

IGNORED_LABEL = -100


def query_columns(
    shape: tuple[int, int],
    device: torch.device,
    real: Tensor | None,
    layout: Layout | None,
    limits: Iterable[Tensor | int],
) -> Tensor:
    """(B,) column of each row whose attention scores tokens.

    It is the last one that is not padding and lies behind none of `limits`, (B,) or one for all rows; yet no column in
    front of the last visual token, which would see only part of the pictures.
    """
    batch, length = shape
    column = torch.arange(length, device=device).expand(batch, length)
    allowed = torch.ones_like(column, dtype=torch.bool) if real is None else real.to(device)
    seen = torch.zeros(batch, dtype=torch.long, device=device)
    if layout is not None:
        last = [int(place.columns[-1]) if place.columns.numel() else 0 for _, place in layout.rows]
        seen = torch.tensor(last, device=device)
    for limit in limits:
        limit = torch.as_tensor(limit, device=device).expand(batch)
        allowed = allowed & (column <= torch.maximum(limit, seen)[:, None])
    return torch.where(allowed, column, 0).amax(1)


def before_targets(labels: Tensor, layout: Layout) -> Tensor:
    """(B,) the column in front of the first target of each row. Labels of visual tokens are none."""
    target = labels != IGNORED_LABEL
    for number, (_, placement) in enumerate(layout.rows):
        target[number, placement.columns.to(target.device)] = False
    column = torch.arange(labels.shape[1], device=labels.device).expand_as(labels)
    return torch.where(target, column, labels.shape[1]).amin(1) - 1


def first_kept(inputs: Mapping[str, Any], length: int) -> int | None:
    """The first column whose logits are asked for, None when all are: what follows it is scored, not asked.

    The logits of a column are those of the token behind it, so the first column belongs to the prompt.
    """
    kept = next((inputs[name] for name in KEPT_LOGITS if inputs.get(name) is not None), 0)
    if isinstance(kept, int):
        kept = slice(-kept, None)
    # Anything else is an index, as in transformers: a slice, a tensor, a list, an array or a range of columns.
    columns = torch.arange(length)[kept.cpu() if isinstance(kept, torch.Tensor) else kept]
    return (int(columns.min()) or None) if columns.numel() else None
