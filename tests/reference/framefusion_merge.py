"""One merging call of the published FrameFusion in tensors, step by step as it is described, for one row.

The same algorithm as `Reference.merge` in strict mode, in a form that can be timed on real sizes: tokens are lined up
by place, compared with their neighbour in that line, and every run collapses into the mean of itself and its head.
"""

from __future__ import annotations

import torch
from torch import Tensor

NEVER = -2.0


def merge(hidden: Tensor, patch: Tensor, threshold: float) -> tuple[Tensor, Tensor]:
    """hidden: (L, D). patch: (L,) index of each token in its frame, -1 for text.

    Returns values (K, D) and their slots.
    """
    visual = (patch >= 0).nonzero().flatten()
    order = visual[torch.argsort(patch[visual], stable=True)]
    similarity = similarities(hidden, patch, order)
    joining = similarity >= threshold
    lengths = run_lengths(joining)
    line = torch.arange(len(order), device=hidden.device)
    head = line - lengths

    lined = hidden[order]
    total = torch.zeros_like(lined)
    total.index_add_(0, head, lined)
    members = torch.bincount(head, minlength=len(order)).to(hidden.dtype)
    heads = ~joining
    merged = hidden.clone()
    merged[order[heads]] = total[heads] / members[heads][:, None]
    alive = torch.ones(len(hidden), dtype=torch.bool, device=hidden.device)
    alive[order[joining]] = False
    return merged[alive], alive.nonzero().flatten()


def similarities(hidden: Tensor, patch: Tensor, order: Tensor) -> Tensor:
    """(N,) cosine of each token in line with the one before it, NEVER where a new place begins."""
    before, after = hidden[order[:-1]], hidden[order[1:]]
    cosine = torch.cosine_similarity(before, after, dim=-1)
    cosine[patch[order[:-1]] != patch[order[1:]]] = NEVER
    return torch.cat([cosine.new_full((1,), NEVER), cosine])


def run_lengths(joining: Tensor) -> Tensor:
    """(N,) how many tokens of the run up to and including this one join; 0 at a head."""
    counted = joining.long().cumsum(0)
    at_heads = torch.where(joining, 0, counted).cummax(0).values
    return counted - at_heads
