"""Bipartite soft matching: which tokens to merge when every second one may join any of the others."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

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
