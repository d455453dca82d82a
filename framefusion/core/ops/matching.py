"""Find the token that another one joins: its nearest, its predecessor in a run, its partner in another frame."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from framefusion.core.ops.selection import SLACK
from framefusion.core.ops.similarity import NO_PREDECESSOR

if TYPE_CHECKING:
    from torch import Tensor


def soft_matching(metric: Tensor, count: int, protected: Tensor) -> Tensor:
    """Heads of N tokens after `count` of them joined another (ToMe, section 3.1).

    metric: (N, d). protected: (N,) bool, tokens that neither join nor take in. Returns (N,) head of each token. Tokens
    at even places offer to join; each chooses its most similar partner at an odd place, and the `count` best merge.
    """
    total = metric.shape[0]
    head = torch.arange(total, device=metric.device)
    unit = F.normalize(metric.float(), dim=-1)
    joining, taking = head[0::2], head[1::2]
    likeness = unit[joining] @ unit[taking].T
    likeness = likeness.masked_fill(protected[joining][:, None] | protected[taking][None, :], float("-inf"))
    if likeness.numel() == 0:
        return head
    best, partner = likeness.max(1)
    count = min(count, int((best > float("-inf")).sum()))
    chosen = torch.topk(best, count).indices
    head[joining[chosen]] = taking[partner[chosen]]
    return head


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


def nearest(unit: Tensor, targets: Tensor) -> Tensor:
    """(n,) index of the (m, D) target of highest cosine for each of the (n, D) rows; the first one among equals.

    Rows and targets are float32 and of length one or zero.
    """
    cosine = unit @ targets.T
    return (cosine >= cosine.amax(1, keepdim=True) - SLACK).int().argmax(1)


NOBODY = -1
"""Partner of a token whose place is empty in the other frame."""


def partners(frame: Tensor, place: Tensor, other: Tensor) -> Tensor:
    """(N,) index of the token at each token's place in frame `other`, NOBODY where there is none.

    frame, place: (N,) of each token, a pair of them unique. other: (N,) frame to look in.
    """
    if frame.numel() == 0:
        return frame
    table = frame.new_full((int(frame.max()) + 1, int(place.max()) + 1), NOBODY)
    table[frame, place] = torch.arange(frame.numel(), device=frame.device)
    return table[other, place]


def pair_cosine(hidden: Tensor, partner: Tensor) -> Tensor:
    """(N,) float32 cosine of each token with its partner; NO_PREDECESSOR where it has none, 0 beside a zero vector."""
    wide = hidden.to(torch.promote_types(hidden.dtype, torch.float32))
    norm = torch.linalg.vector_norm(wide, dim=-1)
    found = partner.clamp(min=0)
    cosine = (wide * wide[found]).sum(-1) / (norm * norm[found]).clamp(min=torch.finfo(wide.dtype).tiny)
    return cosine.masked_fill(partner == NOBODY, NO_PREDECESSOR)
