"""Tensors with a row per prompt column, cut down to the columns that are left."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from torch import Tensor

POSITION_TABLES = "position_embeddings"
"""What the names of rotary tables begin with."""


@dataclass(frozen=True)
class Fold:
    """How a hidden state of more than three axes was made (B, K, C). shape: of what was folded, None if nothing was."""

    shape: tuple[int, ...] | None = None
    batch_first: bool = True

    @property
    def folded(self) -> bool:
        return self.shape is not None

    def undo(self, hidden: Tensor) -> Tensor:
        if self.shape is None:
            return hidden
        if self.batch_first:
            return hidden.unflatten(2, self.shape[2:])
        return hidden.unflatten(2, (self.shape[0], self.shape[3])).permute(2, 0, 1, 3)


def fold(hidden: Tensor, batch: int, length: int) -> tuple[Tensor, Fold]:
    """Some decoders carry several streams per token, (B, K, S, D) or (S, B, K, D): one row per token, (B, K, S * D)."""
    if hidden.ndim == 3:
        return hidden, Fold()
    shape = tuple(hidden.shape)
    if shape[:2] == (batch, length):
        return hidden.flatten(2), Fold(shape)
    return hidden.permute(1, 2, 0, 3).flatten(2), Fold(shape, batch_first=False)


def cut_positions(value: Any, columns: Tensor, length: int) -> Any:
    """Rotary tables: tensors (..., B or 1, L, d), alone or nested in tuples, lists and dicts, -> (..., B, K, d)."""
    if isinstance(value, (tuple, list)):
        return type(value)(cut_positions(part, columns, length) for part in value)
    if isinstance(value, dict):
        return {key: cut_positions(part, columns, length) for key, part in value.items()}
    if not isinstance(value, torch.Tensor) or value.ndim < 2 or value.shape[-2] != length:
        return value
    if value.ndim == 2:
        value = value[None]
    index = columns.to(value.device)
    value = value.expand(*value.shape[:-3], index.shape[0], -1, -1)
    return value.gather(-2, index.unsqueeze(-1).expand(*value.shape[:-2], index.shape[1], value.shape[-1]))


def cut_position_ids(value: Any, columns: Tensor, length: int) -> Any:
    """(..., B or 1, L) -> (..., B, K)."""
    if not isinstance(value, torch.Tensor) or value.ndim < 2 or value.shape[-1] != length:
        return value
    index = columns.to(value.device)
    value = value.expand(*value.shape[:-2], index.shape[0], -1)
    return value.gather(-1, index.expand(*value.shape[:-2], *index.shape))


def cut_sequence(value: Any, columns: Tensor, length: int) -> Any:
    """Any other per-token input of a layer, (B or 1, L, ...) -> (B, K, ...)."""
    if not isinstance(value, torch.Tensor) or value.ndim < 2 or value.shape[1] != length:
        return value
    index = columns.to(value.device)
    if value.shape[0] not in (1, index.shape[0]):
        return value
    value = value.expand(index.shape[0], *value.shape[1:])
    row = torch.arange(index.shape[0], device=value.device)[:, None]
    return value[row, index]
