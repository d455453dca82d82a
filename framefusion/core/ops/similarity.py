"""Cosines between tokens: with the predecessor in time, over all pairs of a place."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from framefusion.core.ops.kernels import kernels_for

if TYPE_CHECKING:
    from torch import Tensor

NO_PREDECESSOR = -2.0
"""Similarity of a token that has no earlier token at its place; below every cosine."""

PIECE_BYTES = 3 << 20
"""Tokens compared at a time on a CPU: what fits its caches beside their predecessors."""


def time_order(group: Tensor) -> Tensor:
    """(N,) permutation that lines up the tokens of each group, prompt order kept inside a group."""
    return torch.sort(group, stable=True).indices


def similarity_to_previous(hidden: Tensor, group: Tensor, order: Tensor, strict: bool = False) -> Tensor:
    """Cosine of each token with the previous token of its group (FrameFusion, section 3.2).

    hidden: (N, D). group: (N,) equal for tokens at the same place in different frames. order: `time_order(group)`.
    strict: compute in the dtype of `hidden` without a guard against zero vectors, as the published code does.
    Returns (N,) in the order of `order`; NO_PREDECESSOR where a group begins.
    """
    same = group[order][:-1] == group[order][1:]
    earlier = torch.full_like(order, -1)
    earlier[order[1:]] = torch.where(same, order[:-1], -1)
    dot, norm = dots_and_norms(hidden, earlier, hidden.dtype if strict else None)
    scale = norm * norm[earlier.clamp(min=0)]
    if not strict:
        scale = scale.clamp(min=torch.finfo(scale.dtype).tiny)
    return (dot / scale).masked_fill(earlier < 0, NO_PREDECESSOR)[order]


@torch.no_grad()
def dots_and_norms(hidden: Tensor, earlier: Tensor, dtype: torch.dtype | None = None) -> tuple[Tensor, Tensor]:
    """Products of tokens with their predecessors, and their lengths, in one pass and without a copy of all tokens.

    hidden: (N, D). earlier: (N,) predecessor of each token; below zero, or without a meaning, where it has none.
    dtype: to compute in, None for float32 at least. Returns (N,) and (N,).
    """
    kernels = kernels_for(hidden, "similarity") if dtype in (None, torch.float32) else None
    if kernels is not None:
        return kernels.dots_and_norms(hidden, earlier)
    count, width = hidden.shape
    dtype = torch.promote_types(hidden.dtype, torch.float32) if dtype is None else dtype
    dot, norm = hidden.new_zeros(count, dtype=dtype), hidden.new_empty(count, dtype=dtype)
    step = count if hidden.is_cuda else max(16, PIECE_BYTES // max(1, width * dtype.itemsize))
    room = hidden.new_empty(2, min(step, count), width, dtype=dtype)
    for start in range(0, count, max(1, step)):
        stop = min(start + step, count)
        now = hidden[start:stop].to(dtype)
        then, product = room[0, : stop - start], room[1, : stop - start]
        before = _before(hidden, earlier, start, stop, then)
        torch.sum(torch.mul(now, before, out=product), -1, out=dot[start:stop])
        torch.linalg.vector_norm(now, dim=-1, out=norm[start:stop])
    return dot, norm


def _before(hidden: Tensor, earlier: Tensor, start: int, stop: int, room: Tensor) -> Tensor:
    """The predecessors of tokens start..stop: where they lie if that is one piece, else copied to `room`."""
    places = earlier[start:stop]
    if not hidden.is_cuda:
        first = int(places[0])
        if first >= 0 and torch.equal(places, torch.arange(first, first + stop - start)):
            return hidden[first : first + stop - start].to(room.dtype)
    places = places.clamp(min=0)
    if hidden.dtype == room.dtype:
        return torch.index_select(hidden, 0, places, out=room)
    return room.copy_(hidden.index_select(0, places))


def unit_rows(values: Tensor) -> Tensor:
    """values: (N, D) of any float dtype -> (N, D) float32 of length one; a zero vector stays zero."""
    wide = values.to(torch.float32)
    norm = torch.linalg.vector_norm(wide, dim=-1, keepdim=True)
    return wide / norm.clamp(min=torch.finfo(torch.float32).tiny)


def mean_pair_cosine(unit: Tensor, place: Tensor, places: int) -> Tensor:
    """Mean cosine over all pairs of tokens at the same place.

    unit: (n, D) float32 rows of length one or zero. place: (n,) numbers below `places`.
    Returns (places,), -inf where there is no pair.
    """
    ones = torch.ones(len(place), device=unit.device)
    count = torch.zeros(places, device=unit.device).index_add_(0, place, ones)
    total = unit.new_zeros(places, unit.shape[1]).index_add_(0, place, unit)
    alone = unit.new_zeros(places).index_add_(0, place, unit.square().sum(1))
    pairs = count * (count - 1.0)
    cosine = (total.square().sum(1) - alone) / pairs.clamp(min=1.0)
    return torch.where(pairs > 0.0, cosine, float("-inf"))
