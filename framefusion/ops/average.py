"""Means over groups of tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor


def group_means(values: Tensor, group: Tensor, groups: int) -> Tensor:
    """values: (N, D) or (N,). group: (N,) in 0..groups-1. Returns (groups, D) or (groups,); empty groups are zero."""
    # A product instead of scattered additions, whose order, and so whose rounding, is not fixed on every device.
    member = (torch.arange(groups, device=group.device)[:, None] == group).to(values.dtype)
    share = member / member.sum(1, keepdim=True).clamp(min=1)
    return share @ values
