"""Vectors of length one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor


def unit_rows(values: Tensor) -> Tensor:
    """values: (N, D) of any float dtype -> (N, D) float32 of length one; a zero vector stays zero."""
    wide = values.to(torch.float32)
    norm = torch.linalg.vector_norm(wide, dim=-1, keepdim=True)
    return wide / norm.clamp(min=torch.finfo(torch.float32).tiny)
