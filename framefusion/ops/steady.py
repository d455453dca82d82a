"""How little a place in the picture changes over time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor


def mean_pair_cosine(unit: Tensor, place: Tensor, places: int) -> Tensor:
    """Mean cosine over all pairs of tokens at the same place.

    unit: (n, D) float32 rows of length one or zero. place: (n,) numbers below `places`.
    Returns (places,), -inf where there is no pair.
    """
    ones = torch.ones(len(place), device=unit.device)
    count = torch.zeros(places, device=unit.device).index_add_(0, place, ones)
    total = unit.new_zeros(places, unit.shape[1]).index_add_(0, place, unit)
    alone = unit.new_zeros(places).index_add_(0, place, unit.square().sum(1))
    pairs = count * (count - 1.0)
    cosine = (total.square().sum(1) - alone) / pairs.clamp(min=1.0)
    return torch.where(pairs > 0.0, cosine, float("-inf"))
