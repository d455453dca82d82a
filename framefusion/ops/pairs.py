"""Tokens paired with the token at the same place of another frame."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from framefusion.ops.similarity import NO_PREDECESSOR

if TYPE_CHECKING:
    from torch import Tensor

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
