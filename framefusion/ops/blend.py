"""Survivors that keep a fixed share of themselves in what they take in."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from framefusion.plan import GONE, Plan

if TYPE_CHECKING:
    from torch import Tensor


def blend(keep: Tensor, head: Tensor, target: Tensor, source: Tensor, size: Tensor, beta: float) -> Plan:
    """Every target becomes w times itself plus 1 - w times the mean of its sources; w is at least `beta`.

    keep: (K,) ascending survivors. head: (N,) survivor that stands for each token, GONE where none does. target,
    source: (M,) tokens; a source may go to several targets. size: (N,) originals behind each token: they weigh the
    mean, and w is the target's share of all of them if that is more than `beta`.
    """
    count = len(head)
    slot = torch.full((count,), GONE, dtype=torch.long, device=head.device)
    slot[keep] = torch.arange(len(keep), device=head.device)
    owner = torch.where(head == GONE, GONE, slot[head.clamp(min=0)])
    if len(source) == 0:
        return Plan(count, keep, owner)
    size, to = size.to(torch.float32), slot[target]
    taken = torch.zeros(len(keep), device=head.device).index_add_(0, to, size[source])
    own = torch.where(taken > 0, (size[keep] / (size[keep] + taken)).clamp(min=beta), 1.0)
    return Plan(count, keep, owner, to, source, (1.0 - own[to]) * size[source] / taken[to], own)


def halving_shares(head: Tensor) -> Tensor:
    """(N,) share of each token in its survivor, if that takes in one token after the other at half and half.

    head: (N,) survivor that stands for each token; a survivor names itself. Tokens are taken in in prompt order.
    """
    group = torch.unique(head, return_inverse=True)[1]
    joins = head != torch.arange(len(head), device=head.device)
    joined = torch.bincount(group[joins], minlength=int(group.max()) + 1)
    lined = group.sort(stable=True).indices
    seen = torch.empty_like(head)
    seen[lined] = joins[lined].cumsum(0)
    seen = seen - (joined.cumsum(0) - joined)[group]
    return torch.exp2(-torch.where(joins, joined[group] - seen + 1, joined[group]).to(torch.float32))
