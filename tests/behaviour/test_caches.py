"""Caches of the user, of other kinds, copied, cut, reordered, and used in the wrong place."""

from __future__ import annotations

import copy
from importlib.util import find_spec

import pytest
import torch
from transformers import DynamicCache, QuantizedCache

import framefusion as ff
from framefusion.core.errors import CacheCropError, StaleCacheError
from framefusion.engine.model.cache_names import cache_name, cache_of
from framefusion.inference.reduction import reduce_clips
from tests.behaviour.support import (
    answer,
    continuation,
    every_family,
    families,
    few_families,
    identity,
    inputs,
    method,
    model,
    stored_bytes,
)
from tests.support.kernels import use_plain_quanto
from tests.support.tiny import build_model

NEXT = torch.tensor([[21, 22, 23], [41, 42, 43]])
needs_quanto = pytest.mark.skipif(find_spec("optimum") is None, reason="the quantised cache needs optimum-quanto")
quantisable = families("qwen2_vl", "qwen2_5_vl", "qwen3_vl", "video_llama_3", "llava_onevision", "internvl", "smolvlm")


def new_cache(net):
    return DynamicCache(config=net.config.get_text_config())


@torch.no_grad()
def read(net, prompt, cache=None):
    return cache_of(net(**prompt, **{cache_name(): cache}, use_cache=True))


@torch.no_grad()
def go_on(name, net, prompt, cache, tokens=NEXT, done=0):
    """Logits (B, Q, V) of `tokens` behind the prompt."""
    tokens = tokens[: prompt["attention_mask"].shape[0]]
    options = continuation(name, net, prompt, done, tokens.shape[1])
    return net(input_ids=tokens, **{cache_name(): cache}, use_cache=True, **options).logits


def rows_of(prompt, rows):
    return {"attention_mask": prompt["attention_mask"][rows]}


@every_family
def test_a_cache_of_the_user_holds_less(name):
    net, prompt = model(name), inputs(name)
    dense, reduced = new_cache(net), new_cache(net)
    answer(net, prompt, **{cache_name(): dense})
    with reduce_clips(net, method(name)):
        expected = answer(net, prompt)
        assert answer(net, prompt, **{cache_name(): reduced}).tolist() == expected.tolist()
    assert reduced.get_seq_length() == dense.get_seq_length()
    lengths = [layer.keys.shape[-2] for layer in reduced.layers if getattr(layer, "keys", None) is not None]
    assert lengths[-1] < lengths[0] or name == "gemma3"
    assert stored_bytes(reduced) < stored_bytes(dense)


@pytest.fixture
def plain_quanto(monkeypatch):
    use_plain_quanto(monkeypatch)


@needs_quanto
@quantisable
@pytest.mark.usefixtures("plain_quanto")
@pytest.mark.parametrize("bits", [2, 4])
def test_a_quantised_cache(name, bits):
    """Its error is that of the dense model on the same kind of cache: two bits cost more than four, four little."""
    net, prompt = model(name), inputs(name)

    def logits(cache):
        return go_on(name, net, prompt, read(net, prompt, cache))

    def quantised():
        return QuantizedCache("quanto", net.config, nbits=bits, q_group_size=16, residual_length=4)

    dense_error = (logits(quantised()) - logits(new_cache(net))).norm()
    with ff.reduce(net, identity()):
        assert torch.equal(logits(quantised()), logits(quantised()))
    with reduce_clips(net, method(name)) as reduction:
        error = (logits(quantised()) - logits(new_cache(net))).norm()
        assert reduction.report.kv_bytes < reduction.report.kv_bytes_dense
    assert 0 < error < 2 * dense_error


@needs_quanto
@quantisable
@pytest.mark.usefixtures("plain_quanto")
def test_generate_with_a_quantised_cache(name):
    net, prompt = model(name), inputs(name)
    options = {
        "cache_implementation": "quantized",
        "cache_config": {"backend": "quanto", "nbits": 4, "q_group_size": 16, "residual_length": 8},
    }
    dense = answer(net, prompt, 12, **options)
    with ff.reduce(net, identity()):
        assert answer(net, prompt, 12, **options).tolist() == dense.tolist()
    with reduce_clips(net, method(name)):
        quantised = answer(net, prompt, 12, **options)
        assert quantised.shape == dense.shape
        assert torch.equal(quantised[:, 0], answer(net, prompt, 1)[:, 0])


@pytest.mark.skipif(find_spec("hqq") is None, reason="the other quantised cache needs hqq")
@families("qwen2_5_vl", "llava_onevision")
def test_generate_with_a_cache_of_hqq(name):
    net, prompt = model(name), inputs(name)
    shape = {"nbits": 4, "q_group_size": 16, "residual_length": 8, "axis_key": 1, "axis_value": 1}
    options = {"cache_implementation": "quantized", "cache_config": {"backend": "hqq", **shape}}
    dense = answer(net, prompt, 12, **options)
    with ff.reduce(net, identity()):
        assert answer(net, prompt, 12, **options).tolist() == dense.tolist()
    with reduce_clips(net, method(name)) as reduction:
        quantised = answer(net, prompt, 12, **options)
        assert torch.equal(quantised[:, 0], answer(net, prompt, 1)[:, 0])
        assert reduction.report.kept_fraction < 1


@few_families
def test_an_offloaded_cache(name):
    net, prompt = model(name), inputs(name)
    with reduce_clips(net, method(name)):
        expected = answer(net, prompt)
        cache = DynamicCache(config=net.config.get_text_config(), offloading=True)
        if cache.prefetch_stream.device.type == "cpu" and not torch.accelerator.is_available():
            pytest.skip("transformers moves layers on an accelerator's stream, there is none")
        assert answer(net, prompt, **{cache_name(): cache}).tolist() == expected.tolist()


@few_families
def test_a_copy_goes_its_own_way(name):
    net, prompt = model(name), inputs(name)
    with reduce_clips(net, method(name)):
        cache = read(net, prompt)
        twin = copy.deepcopy(cache)
        expected = go_on(name, net, prompt, cache)
        assert torch.equal(go_on(name, net, prompt, twin), expected)
        assert torch.equal(
            go_on(name, net, prompt, twin, NEXT + 9, done=3), go_on(name, net, prompt, cache, NEXT + 9, done=3)
        )


@few_families
@pytest.mark.parametrize("rows", ["long", "ragged"])
def test_cutting_back_to_the_prompt_repeats_the_turn(name, rows):
    if name in ("qwen3_5", "gemma3"):
        pytest.skip("recurrent and full sliding layers cannot go back")
    net, prompt = model(name), inputs(name, rows)
    with reduce_clips(net, method(name)):
        cache = read(net, prompt)
        length = cache.get_seq_length()
        expected = go_on(name, net, prompt, cache)
        cache.crop(-3)
        assert cache.get_seq_length() == length
        torch.testing.assert_close(go_on(name, net, prompt, cache), expected, atol=1e-5, rtol=1e-5)


@families("qwen2_5_vl", "llava_onevision")
def test_cutting_into_unequal_rows_is_refused(name):
    net, prompt = model(name), inputs(name)
    with reduce_clips(net, method(name)):
        cache = read(net, prompt)
        with pytest.raises(CacheCropError, match="hint"):
            cache.crop(-80)


@few_families
def test_rows_repeated_and_picked(name):
    net, prompt = model(name), inputs(name)
    if name == "qwen3_5":
        pytest.skip("transformers cannot repeat the rows of recurrent layers")
    with reduce_clips(net, method(name)):
        expected = go_on(name, net, prompt, read(net, prompt))
        deltas = getattr(net.model, "rope_deltas", None)
        cache = read(net, prompt)
        cache.batch_repeat_interleave(2)
        if deltas is not None:
            net.model.rope_deltas = deltas.repeat_interleave(2, 0)
        twice = go_on(name, net, rows_of(prompt, [0, 0, 1, 1]), cache, NEXT.repeat_interleave(2, 0))
        torch.testing.assert_close(twice, expected.repeat_interleave(2, 0), atol=1e-5, rtol=1e-5)
        cache = read(net, prompt)
        cache.batch_select_indices(torch.tensor([1]))
        if deltas is not None:
            net.model.rope_deltas = deltas[1:]
        chosen = go_on(name, net, rows_of(prompt, [1]), cache, NEXT[1:])
        torch.testing.assert_close(chosen, expected[1:], atol=1e-5, rtol=1e-5)


@few_families
def test_reordered_rows_take_their_columns_along(name):
    net, prompt = model(name), inputs(name)
    with reduce_clips(net, method(name)):
        expected = go_on(name, net, prompt, read(net, prompt))
        cache = read(net, prompt)
        cache.reorder_cache(torch.tensor([1, 0]))
        if getattr(net.model, "rope_deltas", None) is not None:
            net.model.rope_deltas = net.model.rope_deltas.flip(0)
        swapped = go_on(name, net, rows_of(prompt, [1, 0]), cache, NEXT.flip(0))
    torch.testing.assert_close(swapped.flip(0), expected, atol=1e-5, rtol=1e-5)


@few_families
def test_a_cache_can_be_emptied_and_filled_again(name):
    net, prompt = model(name), inputs(name)
    with reduce_clips(net, method(name)):
        expected = go_on(name, net, prompt, read(net, prompt))
        # The recurrent layers of transformers keep their batch size.
        cache = read(net, inputs(name, "ragged" if name == "qwen3_5" else "long"))
        cache.reset()
        assert cache.get_seq_length() == 0
        if cache.layers[-1].keys is not None:
            pytest.skip("this transformers zeroes a dynamic cache instead of emptying it")
        assert torch.equal(go_on(name, net, prompt, read(net, prompt, cache)), expected)


@every_family
def test_a_reduced_cache_is_stale_after_the_reduction(name):
    net, prompt = model(name), inputs(name)
    with reduce_clips(net, method(name)):
        cache = read(net, prompt)
    with pytest.raises(StaleCacheError, match="hint"):
        go_on(name, net, prompt, cache)
    with reduce_clips(net, method(name)), pytest.raises(StaleCacheError):
        go_on(name, net, prompt, cache)


@few_families
def test_a_reduced_cache_is_stale_in_another_model(name):
    net, other, prompt = model(name), build_model(name), inputs(name)
    with reduce_clips(net, method(name)), reduce_clips(other, method(name)):
        cache = read(net, prompt)
        read(other, prompt)
        with pytest.raises(StaleCacheError):
            go_on(name, other, prompt, cache)


@few_families
def test_a_dense_cache_goes_on_in_a_reduction(name):
    """What was read before the reduction is plain and stays plain."""
    net, prompt = model(name), inputs(name)
    expected = go_on(name, net, prompt, read(net, prompt))
    cache = read(net, prompt)
    with reduce_clips(net, method(name)):
        assert torch.equal(go_on(name, net, prompt, cache), expected)
    assert all(type(layer).__module__.startswith("transformers") for layer in cache.layers)
