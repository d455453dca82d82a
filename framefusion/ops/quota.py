"""So many tokens of each group, chosen by a score."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor


def lowest_of_each(score: Tensor, group: Tensor, quota: Tensor) -> Tensor:
    """(N,) bool, the `quota` tokens of lowest score in each group; earlier tokens win ties.

    score: (N,). group: (N,) number of the group of each token, 0..G-1. quota: (G,) tokens to take of each.
    """
    by_score = score.sort(stable=True).indices
    order = by_score[group[by_score].sort(stable=True).indices]
    lined = group[order]
    size = torch.bincount(group, minlength=quota.numel())
    rank = torch.arange(lined.numel(), device=lined.device) - (size.cumsum(0) - size)[lined]
    chosen = torch.empty_like(lined, dtype=torch.bool)
    chosen[order] = rank < quota[lined]
    return chosen
