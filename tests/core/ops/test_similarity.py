"""Similarity in pieces, bit for bit the formula over all tokens at once."""

from __future__ import annotations

import pytest
import torch

from framefusion.core.layout import Geometry
from framefusion.core.ops import similarity
from framefusion.core.ops.similarity import NO_PREDECESSOR, similarity_to_previous, time_order


def at_once(hidden, group, order, strict):
    lined = hidden[order] if strict else hidden[order].float()
    norm = torch.linalg.vector_norm(lined, dim=-1)
    scale = norm[:-1] * norm[1:]
    if not strict:
        scale = scale.clamp(min=torch.finfo(scale.dtype).tiny)
    cosine = (lined[:-1] * lined[1:]).sum(-1) / scale
    cosine = cosine.masked_fill(group[order][:-1] != group[order][1:], NO_PREDECESSOR)
    return torch.cat([cosine.new_full((1,), NO_PREDECESSOR), cosine])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("share", [1.0, 0.6])
def test_pieces_change_no_bit(dtype, strict, share, monkeypatch):
    monkeypatch.setattr(similarity, "PIECE_BYTES", 1)
    group = Geometry.grid(9, 1, 23).patch
    left = torch.rand(len(group), generator=torch.Generator().manual_seed(2)) < share
    hidden, group = torch.randn(len(left), 96)[left].to(dtype), group[left]
    order = time_order(group)
    assert torch.equal(similarity_to_previous(hidden, group, order, strict), at_once(hidden, group, order, strict))


def test_zero_vectors_are_like_nothing():
    found = similarity_to_previous(torch.zeros(4, 8), torch.zeros(4, dtype=torch.long), torch.arange(4))
    assert found.tolist() == [NO_PREDECESSOR, 0.0, 0.0, 0.0]
