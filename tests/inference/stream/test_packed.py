"""A memory of few bits."""

from __future__ import annotations

import pytest
import torch

import framefusion as ff
from framefusion.inference.quantization.rounding import round_trip
from framefusion.inference.stream.packed import Packed, joined, picked
from tests.inference.stream.support import FEW, QUESTION, assert_same, clip, seconds, stream, watched


def numbers(count=7, width=16, seed=0, dtype=torch.float32):
    return torch.randn(2, count, width, generator=torch.Generator().manual_seed(seed)).to(dtype)


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("group", [4, 8, 16])
def test_packed_numbers_are_the_rounded_ones(bits, group):
    values = numbers()
    packed = Packed.of(values, bits, group)
    torch.testing.assert_close(packed.unpacked(), round_trip(values, bits, group), atol=1e-6, rtol=1e-5)
    assert packed.codes.numel() == values.numel() * bits // 8 and packed.width == 16


def test_equal_numbers_stay_what_they_are():
    values = torch.full((2, 3, 8), 1.5)
    assert torch.equal(Packed.of(values, 4, 8).unpacked(), values)


def test_half_precision_keeps_its_type():
    values = numbers(dtype=torch.bfloat16)
    unpacked = Packed.of(values, 8, 16).unpacked()
    assert unpacked.dtype == torch.bfloat16
    assert (unpacked.float() - values.float()).abs().max() < 0.05


def test_picking_and_joining_round_nothing_again():
    first, second = (Packed.of(numbers(seed=seed), 4, 8) for seed in (0, 1))
    index = torch.tensor([[0, 3, 9], [1, 2, 8]])
    both = joined(first, second)
    plain = torch.cat([first.unpacked(), second.unpacked()], 1)
    assert torch.equal(both.unpacked(), plain)
    assert torch.equal(picked(both, index).unpacked(), plain.gather(1, index[..., None].expand(-1, -1, 16)))


@pytest.mark.parametrize("name", FEW)
def test_a_stream_of_four_bits(name, tmp_path):
    options = {"policy": "infinipot", "memory": 150, "window": 4}
    with watched(name, 10, quantization="kv=int4", **options) as video, watched(name, 10, **options) as whole:
        layers, others = video._watched.state.memory.layers, whole._watched.state.memory.layers
        packed = sum(layer.bytes - layer.about.nbytes for layer in layers.values())
        assert packed <= 0.35 * sum(layer.bytes - layer.about.nbytes for layer in others.values())
        assert video.status.full_cache_bytes == whole.status.full_cache_bytes
        answer = video.ask(QUESTION, max_new_tokens=4)
        video.save(tmp_path / "tape")
        with stream(name, quantization="kv=int4", resume=tmp_path / "tape", **options) as other:
            for number, layer in layers.items():
                assert_same(other._watched.state.memory.layers[number].tensors, layer.tensors)
            assert other.ask(QUESTION, max_new_tokens=4) == answer
            other.feed(clip()[10:], seconds()[10:])


def test_eight_bits_are_close():
    with watched("qwen2_5_vl", quantization="kv=int8") as video, watched("qwen2_5_vl") as whole:
        layers, others = video._watched.state.memory.layers, whole._watched.state.memory.layers
        for number in layers:
            error = (layers[number].keys.unpacked() - others[number].keys).abs().max()
            assert 0 < error < 0.1


@pytest.mark.parametrize("words", ["weights=int4", "kv=sim4", "kv=int3", "attention=sage", "much", 4])
def test_what_a_memory_cannot_be(words):
    with pytest.raises(ff.FrameFusionError):
        stream("qwen2_5_vl", quantization=words)
