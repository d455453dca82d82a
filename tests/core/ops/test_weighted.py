"""Weighted sums of rows, against a dense matrix."""

from __future__ import annotations

import pytest
import torch

from framefusion.core.ops import weighted
from framefusion.core.ops.weighted import Sums, runs_forward, weighted_rows, weighted_rows_

COUNT, KEPT, WIDTH = 40, 12, 6


def draw_sums(seed=0):
    draw = torch.Generator().manual_seed(seed)
    own = torch.randperm(COUNT, generator=draw)[:KEPT].sort().values
    source = torch.randperm(COUNT, generator=draw)[:20]
    target = torch.randint(0, KEPT - 1, (20,), generator=draw)
    return Sums.of(own, torch.rand(KEPT, generator=draw), target, source, torch.rand(20, generator=draw)), own, target


def matrix_of(sums):
    matrix = torch.zeros(sums.count, COUNT, dtype=torch.float64)
    return matrix.index_put_((sums.numbers(), sums.source), sums.weight.double(), accumulate=True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("piece", [1, 1 << 20])
def test_sums_are_those_of_the_matrix(dtype, piece, monkeypatch):
    monkeypatch.setattr(weighted, "PIECE_BYTES", piece)
    sums, own, target = draw_sums()
    values = torch.randn(COUNT, 2, WIDTH).to(dtype)
    made = weighted_rows(values, sums)
    exact = torch.einsum("km,mij->kij", matrix_of(sums), values.double())
    torch.testing.assert_close(made.double(), exact, rtol=2 * torch.finfo(dtype).eps, atol=1e-6)
    alone = [slot for slot in range(KEPT) if slot not in target.tolist()]
    assert torch.equal(made[alone], values[own[alone]]), "a row that takes nothing in changed"


def test_gradients_flow_through_the_sums():
    sums, _, _ = draw_sums()
    values = torch.randn(COUNT, WIDTH, dtype=torch.float64, requires_grad=True)
    weighted_rows(values, sums).sum().backward()
    torch.testing.assert_close(values.grad, matrix_of(sums).sum(0)[:, None].expand_as(values.grad))


def test_in_place_gives_the_same_in_the_first_rows(monkeypatch):
    monkeypatch.setattr(weighted, "PIECE_BYTES", 1)
    own = torch.arange(0, COUNT, 2)
    head = torch.arange(KEPT)
    sums = Sums.of(own, torch.full((20,), 0.5), head, 2 * head + 3, torch.full((KEPT,), 0.5))
    values = torch.randn(COUNT, WIDTH)
    assert runs_forward(sums)
    expected = weighted_rows(values, sums)
    made = weighted_rows_(values, sums)
    assert torch.equal(made, expected) and made.data_ptr() == values.data_ptr()


def test_a_row_that_would_be_overwritten_is_seen():
    one = torch.ones(1)
    forward = Sums.of(torch.tensor([0, 2]), torch.ones(2), torch.tensor([0]), torch.tensor([1]), one)
    backward = Sums.of(torch.tensor([0, 2]), torch.ones(2), torch.tensor([1]), torch.tensor([0]), one)
    assert runs_forward(forward) and not runs_forward(backward)
