"""Cosine similarity of visual tokens along time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

NO_PREDECESSOR = -2.0
"""Similarity of a token that has no earlier token at its place; below every cosine."""


def time_order(group: Tensor) -> Tensor:
    """(N,) permutation that lines up the tokens of each group, prompt order kept inside a group."""
    return torch.sort(group, stable=True).indices


def similarity_to_previous(hidden: Tensor, group: Tensor, order: Tensor, strict: bool = False) -> Tensor:
    """Cosine of each token with the previous token of its group (FrameFusion, section 3.2).

    hidden: (N, D). group: (N,) equal for tokens at the same place in different frames. order: `time_order(group)`.
    strict: compute in the dtype of `hidden` without a guard against zero vectors, as the published code does.
    Returns (N,) in the order of `order`; NO_PREDECESSOR where a group begins.
    """
    lined = hidden.index_select(0, order)
    if not strict:
        lined = lined.to(torch.promote_types(hidden.dtype, torch.float32))
    norm = torch.linalg.vector_norm(lined, dim=-1)
    dot = (lined[:-1] * lined[1:]).sum(-1)
    scale = norm[:-1] * norm[1:]
    if not strict:
        scale = scale.clamp(min=torch.finfo(scale.dtype).tiny)
    cosine = dot / scale
    starts = group[order][:-1] != group[order][1:]
    cosine = cosine.masked_fill(starts, NO_PREDECESSOR)
    return torch.cat([cosine.new_full((min(1, len(group)),), NO_PREDECESSOR), cosine])
