"""Rounding against loops over single numbers."""

from __future__ import annotations

import pytest
import torch

from framefusion.inference.quantization.rounding import round_trip, stored_bytes, symmetric
from tests.reference import quantization as reference


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("bits", range(2, 9))
@pytest.mark.parametrize("group", [None, 8, 5, 64])
def test_the_reference(bits, group):
    values = draw(3, 4, 20) + 0.3
    expected = [[reference.rounded_row(row, bits, group or 20) for row in part] for part in values.tolist()]
    torch.testing.assert_close(round_trip(values, bits, group), torch.tensor(expected), atol=1e-5, rtol=1e-5)


def test_the_ends_of_a_group_stay_and_nothing_moves_more_than_half_a_step():
    values = draw(5, 32)
    for bits in (2, 4, 8):
        rounded = round_trip(values, bits, 16)
        low, high = (getattr(values.view(5, 2, 16), end)(-1, keepdim=True) for end in ("amin", "amax"))
        step = ((high - low) / (2**bits - 1)).expand(5, 2, 16).flatten(1)
        assert ((rounded - values).abs() <= step / 2 + 1e-6).all()
        assert all(len(group.unique()) <= 2**bits for group in rounded.view(10, 16))


def test_equal_values_stay_and_rounding_twice_is_rounding_once():
    assert torch.equal(round_trip(torch.full((2, 8), 0.7), 2, 4), torch.full((2, 8), 0.7))
    once = round_trip(draw(4, 64), 3, 16)
    torch.testing.assert_close(round_trip(once, 3, 16), once, atol=1e-6, rtol=0)


def test_the_type_stays():
    values = draw(2, 16).to(torch.bfloat16)
    assert round_trip(values, 4).dtype == torch.bfloat16 and round_trip(values, 4).shape == (2, 16)


def test_bytes_count_the_groups():
    assert stored_bytes(1024, 64, 4, 32) == (1024 * 4 + 32 * 32) / 8
    assert stored_bytes(100, 10, 8, 4) == (100 * 8 + 30 * 32) / 8
    assert stored_bytes(100, 10, 8) == (100 * 8 + 10 * 32) / 8


def test_whole_numbers_of_blocks():
    rows = draw(1, 7, 6)
    whole, scale = symmetric(rows, 3)
    integers, scales = reference.whole_numbers(rows[0].tolist(), 3)
    assert whole[0].tolist() == integers and scale.shape == (1, 7, 1)
    assert scale[0, :, 0].tolist() == pytest.approx(scales)
    assert whole.abs().max() == 127
