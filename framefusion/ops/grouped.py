"""Sums over groups of tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor


def group_sums(values: Tensor, group: Tensor) -> Tensor:
    """values: (N, ...) float. group: (N,) numbers from 0 without gaps. Returns (G, ...), rounded alike on every run."""
    # Scattered additions would do, but their order, and so their rounding, is not fixed on every device.
    order = group.sort(stable=True).indices
    return torch.segment_reduce(values[order], "sum", lengths=torch.bincount(group), axis=0)
