"""Greedy maximum of a determinantal point process: relevant picks that do not repeat each other."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from framefusion.ops.pick import first_highest

if TYPE_CHECKING:
    from torch import Tensor

SPANNED = 1e-5
"""A row whose squared distance from the span of the picks is at most this adds nothing but rounding."""


def dpp_picks(unit: Tensor, relevance: Tensor, count: int) -> Tensor:
    """Greedy MAP of the kernel diag(r) U U^T diag(r), in the order of choice.

    unit: (N, D) float32 rows of length one or zero. relevance: (N,) float32, not negative.
    Every pick has the largest r^2 times squared distance from the span of the picks before. Once nothing is left
    outside that span the most relevant remaining rows follow.
    """
    distance = unit.square().sum(1)
    basis = unit.new_zeros(count, len(unit))
    taken = torch.zeros(len(unit), dtype=torch.bool, device=unit.device)
    picks = []
    for number in range(count):
        gain = relevance.square() * torch.where(distance > SPANNED, distance, 0.0)
        gain = gain.masked_fill(taken, float("-inf"))
        spent = gain.max() <= 0.0
        score = torch.where(spent, relevance.masked_fill(taken, float("-inf")), gain)
        pick = first_highest(score)
        picks.append(pick)
        taken[pick] = True
        along = unit @ unit.index_select(0, pick)[0] - basis[:number].T @ basis[:number].index_select(1, pick)[:, 0]
        along = along * distance[pick].clamp(min=SPANNED).rsqrt()
        basis[number] = torch.where(spent, 0.0, along)
        distance = (distance - basis[number].square()).clamp(min=0.0)
    return torch.cat(picks)
