"""Cut what a model's loop hands each layer (positions, per-layer inputs) down to the slots that are left."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from torch import Tensor

POSITION_PREFIX = "position_embeddings"


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
