"""Attention in 8 bits: the arithmetic against loops and against full attention, the kernels where there is a GPU."""

from __future__ import annotations

import math
import sys
from dataclasses import replace
from importlib.util import find_spec
from types import SimpleNamespace

import pytest
import torch
from torch.nn.functional import cosine_similarity, scaled_dot_product_attention

import framefusion as ff
from framefusion.core.errors import AttentionError, MissingPackageError
from framefusion.evaluation import Asking, Records, evaluate
from framefusion.inference.quantization import Precision, attention, quantize
from framefusion.inference.quantization.emulated import emulated_attention
from framefusion.inference.quantization.rounding import symmetric
from tests.behaviour.support import answer, fast_v, few_families, identity, inputs, model
from tests.evaluation.ground import Ground, checkpoint
from tests.reference import quantization as reference
from tests.support.tiny import build_model

GPU = torch.cuda.is_available()


def draw(*shape, seed=0, shift=0.0):
    generator = torch.Generator().manual_seed(seed)
    # Keys of real models have a few channels far from zero, the same for all tokens: what smoothing is for.
    return torch.randn(*shape, generator=generator) + shift * torch.randn(shape[-1], generator=generator)


@pytest.mark.parametrize("causal", [False, True])
def test_the_reference(causal):
    query, key, value = draw(1, 2, 6, 8), draw(1, 1, 9, 8, seed=1, shift=3), draw(1, 1, 9, 8, seed=2)
    found = emulated_attention(query, key, value, scale=0.4, causal=causal)

    def visible(q, k):
        return not causal or k <= q + 3

    for head in range(2):
        rows = [part.tolist() for part in (query[0, head], key[0, 0], value[0, 0])]
        expected = reference.attention(*rows, 0.4, visible, 128, 64)
        torch.testing.assert_close(found[0, head], torch.tensor(expected), atol=3e-3, rtol=3e-3)


@pytest.mark.parametrize("shift", [0.0, 5.0])
@pytest.mark.parametrize("causal", [False, True])
def test_the_error_against_full_attention(shift, causal):
    """A bound of our own, on random inputs."""
    query, key, value = (draw(1, 4, 300, 64, seed=number, shift=shift if number == 1 else 0) for number in range(3))
    full = scaled_dot_product_attention(query, key, value, is_causal=causal)
    found = emulated_attention(query, key, value, causal=causal)
    assert cosine_similarity(found.flatten(), full.flatten(), dim=0) > 0.999
    assert (found - full).abs().sum() < 0.05 * full.abs().sum()


def test_the_error_stays_within_what_rounding_allows():
    """Half a step of a query times a key, and of a key times a query, bounds each logit; twice that, each weight."""
    query, key, value = draw(1, 1, 40, 16), draw(1, 1, 50, 16, seed=1), draw(1, 1, 50, 16, seed=2)
    full, found = scaled_dot_product_attention(query, key, value), emulated_attention(query, key, value)
    scaled, centred = query / 4, key - key.mean(2, keepdim=True)
    of_query, of_key = symmetric(scaled, 128)[1].max() / 2, symmetric(centred, 64)[1].max() / 2
    logit = of_query * centred.abs().sum(-1).max() + of_key * scaled.abs().sum(-1).max() + 16 * of_query * of_key
    bound = (math.exp(2 * logit) - 1) * value.abs().max() + 2**-9 * value.abs().max()
    assert 0 < (found - full).abs().max() <= bound


def test_smoothing_is_what_keeps_keys_apart():
    query, key, value = draw(1, 2, 200, 64), draw(1, 2, 200, 64, seed=1, shift=20), draw(1, 2, 200, 64, seed=2)
    full = scaled_dot_product_attention(query, key, value)
    with_it, without = (emulated_attention(query, key, value, smooth=smooth) - full for smooth in (True, False))
    assert with_it.norm() < 0.2 * without.norm()


def test_masks_are_heeded():
    query, key, value = draw(2, 2, 5, 8), draw(2, 2, 5, 8, seed=1), draw(2, 2, 5, 8, seed=2)
    mask = torch.ones(2, 1, 5, 5, dtype=torch.bool).tril()
    mask[0, :, :, 0] = False
    found = emulated_attention(query, key, value, mask)
    added = emulated_attention(query, key, value, torch.zeros(2, 1, 5, 5).masked_fill(~mask, -torch.inf))
    assert torch.equal(found[0, :, 1:], added[0, :, 1:]) and torch.equal(found[1], added[1])
    assert found.isfinite().all()
    torch.testing.assert_close(found[1], emulated_attention(query[1:], key[1:], value[1:], causal=True)[0])


@few_families
@torch.no_grad()
def test_scores_of_a_reduction_stay_exact(name):
    """The attention call that scores are taken from is seen before anything in it is rounded."""
    net, prompt, fastv = build_model(name), inputs(name), fast_v(name)
    plain = net(**prompt).logits[:, -1]
    with quantize(net, Precision.parse("attention=sage-emulated")):
        dense = net(**prompt).logits[:, -1]
        with ff.reduce(net, identity()):
            assert torch.equal(net(**prompt).logits[:, -1], dense)
        with ff.reduce(net, fastv) as reduction:
            fewer = net(**prompt).logits[:, -1]
            kept = reduction.report.surviving_columns
    assert 0 < (dense - plain).norm() < 0.1 * plain.norm()
    with ff.reduce(net, fastv) as reduction:
        exact = net(**prompt).logits[:, -1]
        # Hidden states that went through one rounded attention may swap tokens of nearly equal scores, no more.
        pairs = zip(kept, reduction.report.surviving_columns, strict=True)
        assert all(len(set(one) & set(other)) >= len(other) - 2 for one, other in pairs)
    assert (fewer - exact).norm() < 0.3 * exact.norm()
    assert net.config.get_text_config()._attn_implementation == "sdpa"


@torch.no_grad()
def test_a_score_before_any_rounding_is_the_same():
    """Attention of the first layer has seen nothing rounded, so what it says about tokens is bit for bit the same."""
    net, prompt = build_model("qwen2_5_vl"), inputs("qwen2_5_vl")
    found = []
    for text in ("", "attention=sage-emulated"):
        with quantize(net, Precision.parse(text)), ff.reduce(net, ff.FastV(keep=0.3, layer=1)) as reduction:
            net(**prompt)
            found.append(reduction.report.surviving_columns)
    assert found[0] == found[1]


def test_sage_without_a_gpu():
    with pytest.raises(AttentionError) as error:
        quantize(model("qwen2_5_vl"), Precision(attention="sage"))
    assert "NVIDIA" in str(error.value) and "sage-emulated" in error.value.hint


class OnGpu:
    """Says it is a parameter on a GPU."""

    device = SimpleNamespace(type="cuda")
    dtype = torch.float16


def anatomy(**config):
    settings = {"head_dim": 128, "hidden_size": 512, "num_attention_heads": 4} | config
    return SimpleNamespace(
        decoder=SimpleNamespace(parameters=lambda: iter([OnGpu()])), decoder_config=SimpleNamespace(**settings)
    )


def test_sage_without_the_package(monkeypatch):
    monkeypatch.setattr(attention, "find_spec", lambda name: None)
    with pytest.raises(MissingPackageError, match="sageattention"):
        attention.check_sage(anatomy())


def test_sage_on_an_old_gpu(monkeypatch):
    monkeypatch.setattr(attention, "find_spec", lambda name: object())
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    with pytest.raises(AttentionError, match=r"7\.5"):
        attention.check_sage(anatomy())


LIMITS = {
    "float32": ({}, torch.float32, "half precision"),
    "wide heads": ({"head_dim": 256}, torch.float16, "256"),
    "windows": ({"layer_types": ["full_attention", "sliding_attention"]}, torch.bfloat16, "window"),
    "windows everywhere": ({"sliding_window": 4096}, torch.bfloat16, "window"),
    "chunks": ({"layer_types": ["chunked_attention", "full_attention"]}, torch.bfloat16, "chunked attention"),
    "both directions": ({"use_bidirectional_attention": True}, torch.bfloat16, "both directions"),
    "softcap": ({"attn_logit_softcapping": 50.0}, torch.bfloat16, "caps"),
}


@pytest.mark.parametrize("case", LIMITS)
def test_limits_are_checked_first(case):
    config, dtype, reason = LIMITS[case]
    attention.check_model(anatomy(), torch.float16)
    with pytest.raises(AttentionError) as error:
        attention.check_model(anatomy(**config), dtype)
    assert reason in str(error.value) and error.value.hint


@pytest.mark.parametrize(
    "config",
    [
        {"layer_types": ["full_attention", "linear_attention", "conv"]},
        {"sliding_window": 4096, "use_sliding_window": False},
        {"sliding_window": 4096, "layer_types": ["full_attention"]},
        {"use_bidirectional_attention": None},
    ],
)
def test_what_is_plainly_causal_may_pass(config):
    attention.check_model(anatomy(**config), torch.bfloat16)


@pytest.fixture
def plain_kernel(monkeypatch):
    """Instead of sageattention: sdpa, which takes no mask either here. Yields the number of calls, in a list."""
    calls = []

    def kernel(query, key, value, tensor_layout, is_causal, sm_scale):
        calls.append(query.shape[2])
        return scaled_dot_product_attention(query, key, value, is_causal=is_causal, scale=sm_scale, enable_gqa=True)

    monkeypatch.setitem(sys.modules, "sageattention", SimpleNamespace(sageattn=kernel))
    monkeypatch.setattr(attention, "check_sage", lambda found: attention.check_model(found, torch.bfloat16))
    return calls


@few_families
@torch.no_grad()
def test_a_model_that_is_let_through_needs_no_mask(name, plain_kernel):
    """One prompt at a time, dense and reduced: what is not refused at first is not refused later either."""
    net, prompt = build_model(name), inputs(name, "long")
    said = net(**prompt).logits[:, -1]
    try:
        quantised = quantize(net, Precision(attention="sage"))
    except AttentionError:
        assert name == "gemma3"
        return
    with quantised:
        torch.testing.assert_close(net(**prompt).logits[:, -1], said, atol=1e-3, rtol=1e-3)
        dense = len(plain_kernel)
        with ff.reduce(net, fast_v(name)):
            assert net(**prompt).logits.isfinite().all()
        assert answer(net, prompt, 3).shape[1] == 3
    assert 0 < dense < len(plain_kernel)


def test_several_prompts_at_once_are_refused_at_first():
    sage = Precision(attention="sage")
    attention.check_rows([None, sage], 1)
    attention.check_rows([None, Precision(), Precision(attention="sage-emulated")], 4)
    with pytest.raises(AttentionError, match="4 prompts") as error:
        attention.check_rows([None, sage], 4)
    assert "--batch 1" in error.value.hint
    seen, narrow = [], replace(checkpoint(), precision=sage)
    with pytest.raises(AttentionError, match="4 prompts"):
        evaluate(
            narrow,
            ff.Random(),
            samples=4,
            asking=Asking(batch=4),
            records=Records(None),
            yardstick=Ground(),
            watch=lambda *step: seen.append(step),
        )
    assert not seen


def test_a_padded_batch_is_refused():
    states = torch.zeros(2, 2, 4, 8)
    with pytest.raises(AttentionError, match="padded"):
        attention._sage(torch.nn.Module(), states, states, states, torch.ones(2, 1, 4, 4, dtype=torch.bool))


@pytest.mark.parametrize("width", [32, 64, 80])
def test_what_the_kernels_are_called_with(width, monkeypatch):
    """Heads are filled up to a width they take, at the scale of their own; single tokens do not come to them."""
    seen = []

    def kernel(query, key, value, tensor_layout, is_causal, sm_scale):
        seen.append(query.shape[-1])
        assert tensor_layout == "HND"
        return scaled_dot_product_attention(query, key, value, is_causal=is_causal, scale=sm_scale, enable_gqa=True)

    monkeypatch.setitem(sys.modules, "sageattention", SimpleNamespace(sageattn=kernel))
    query, key, value = (draw(2, heads, 9, width, seed=seed) for seed, heads in enumerate((4, 2, 2)))
    module = torch.nn.Module()
    module.is_causal, module.num_key_value_groups = True, 2
    full = scaled_dot_product_attention(query, key, value, is_causal=True, enable_gqa=True)
    found, _ = attention._sage(module, query, key, value, None)
    torch.testing.assert_close(found.transpose(1, 2), full)
    assert seen == [{32: 64, 64: 64, 80: 96}[width]]
    last, _ = attention._sage(module, query[:, :, -1:], key, value, None)
    torch.testing.assert_close(last.transpose(1, 2), full[:, :, -1:])
    assert len(seen) == 1


@pytest.mark.skipif(not GPU, reason="the kernels of sageattention need an NVIDIA GPU")
@pytest.mark.skipif(GPU and find_spec("sageattention") is None, reason="needs sageattention")
@torch.no_grad()
def test_the_kernels_agree_with_their_arithmetic():
    query, key, value = (draw(1, heads, 300, 64, seed=heads).half().cuda() for heads in (4, 2, 2))
    found = attention._sage(SimpleNamespace(is_causal=True), query, key, value, None)[0].transpose(1, 2)
    emulated = emulated_attention(query, key, value, causal=True)
    assert cosine_similarity(found.flatten().float(), emulated.flatten().float(), dim=0) > 0.999
