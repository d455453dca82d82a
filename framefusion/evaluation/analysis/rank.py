"""Rank correlation."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor


def ranks(values: Tensor) -> Tensor:
    """(N,) -> (N,) float64 ranks from 1; equal values share the mean of their ranks."""
    _, place, count = torch.unique(values, return_inverse=True, return_counts=True)
    last = count.cumsum(0).double()
    return (last - (count.double() - 1) / 2)[place]


def spearman(values: Tensor) -> Tensor:
    """Spearman's correlation between all rows of `values` (L, N): (L, L) float64; NaN where a row is constant."""
    ranked = torch.stack([ranks(row) for row in values])
    centred = ranked - ranked.mean(1, keepdim=True)
    norm = centred.norm(dim=1)
    return (centred @ centred.T / (norm[:, None] * norm[None, :])).clamp(-1.0, 1.0)
