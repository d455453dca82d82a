"""From "this token joins the one before it" to groups."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor


def heads_of_runs(joins: Tensor, order: Tensor) -> Tensor:
    """Every maximal run of joining tokens collapses into the token just before the run.

    joins: (N,) bool in the order of `order`, False where a group begins. order: (N,) permutation of the tokens.
    Returns (N,) index of the head of each token, in prompt order; a head names itself.
    """
    position = torch.arange(joins.numel(), device=joins.device)
    head_position = torch.where(joins, 0, position).cummax(0).values
    head = torch.empty_like(order)
    head[order] = order[head_position]
    return head
