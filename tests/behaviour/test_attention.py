"""Attention implementations: whichever kernel computes, the same tokens stay and the same answer comes."""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec

import pytest
import torch

import framefusion as ff
from framefusion.engine.model.cache_names import cache_name, cache_of
from framefusion.inference.reduction import reduce_clips
from tests.behaviour.support import answer, continuation, families, identity, inputs, method, model
from tests.support.kernels import FLASH, set_attention, use_plain_flash, use_plain_flex
from tests.support.tiny import build_model

KERNELS = {FLASH: use_plain_flash, "flex_attention": use_plain_flex}
# Every one of them offers flash attention; the Qwen-VL classes do not offer flex attention, but their layers run it.
some_families = families("qwen2_5_vl", "qwen3_vl", "llava_onevision")
MORE = torch.tensor([[11, 12, 13, 14], [31, 32, 33, 34]])


@pytest.fixture(params=KERNELS)
def kernel(request, monkeypatch):
    KERNELS[request.param](monkeypatch)
    return request.param


def build(name, kernel):
    net = build_model(name)
    set_attention(net, kernel)
    if kernel == "flex_attention":
        set_attention(getattr(net.model, "visual", None) or net.model.vision_tower, "sdpa")
    return net


def near(found, expected):
    torch.testing.assert_close(found, expected, atol=2e-4, rtol=1e-3)


def off_the_edge(name):
    """The calibrated threshold is the similarity of some pair of tokens, where rounding decides."""
    chosen = method(name)
    return replace(chosen, similarity_lower_bound=chosen.similarity_lower_bound + 1e-3)


def two_turns(name, net, prompt):
    """Logits of a prompt and of four tokens behind it, on its cache."""
    rows = prompt["input_ids"].shape[0]
    with torch.no_grad():
        first = net(**prompt, use_cache=True)
        options = continuation(name, net, prompt, 0, MORE.shape[1])
        second = net(input_ids=MORE[:rows], **{cache_name(): cache_of(first)}, use_cache=True, **options)
    real = prompt["attention_mask"].bool()
    return first.logits[real], second.logits


@some_families
@pytest.mark.parametrize("rows", ["long", "ragged"])
def test_a_kernel_gives_what_sdpa_gives(name, rows, kernel):
    net, prompt = build(name, kernel), inputs(name, rows)
    for way in (off_the_edge(name), ff.SparseVLM()):
        with ff.reduce(model(name), way) as plain:
            expected = two_turns(name, model(name), prompt)
            tokens = answer(model(name), prompt, 3).tolist()
            columns = plain.report.surviving_columns
        with ff.reduce(net, way) as reduction:
            found = two_turns(name, net, prompt)
            assert answer(net, prompt, 3).tolist() == tokens
            assert reduction.report.surviving_columns == columns
        assert reduction.report.kept_fraction < 1
        for ours, theirs in zip(found, expected, strict=True):
            near(ours, theirs)


@families("qwen2_5_vl", "llava_onevision")
def test_the_identity_changes_no_bit(name, kernel):
    net = build(name, kernel)
    for rows in ("long", "ragged"):
        expected = two_turns(name, net, inputs(name, rows))
        with ff.reduce(net, identity()):
            for ours, theirs in zip(two_turns(name, net, inputs(name, rows)), expected, strict=True):
                assert torch.equal(ours, theirs)
    assert net.get_decoder().config._attn_implementation == kernel


@pytest.mark.parametrize("version", [2, 3])
def test_flash_attention_on_a_gpu(version):
    """The kernel itself, in half precision: the tokens that stay are sdpa's but for ties."""
    package = {2: "flash_attn", 3: "flash_attn_interface"}[version]
    if not torch.cuda.is_available():
        pytest.skip("flash attention needs an NVIDIA GPU")
    if find_spec(package) is None:
        pytest.skip(f"needs the package {package}")
    name = "qwen2_5_vl"
    prompt = {key: value.to("cuda") for key, value in inputs(name).items()}
    found = {}
    for attn in ("sdpa", f"flash_attention_{version}"):
        net = build_model(name, dtype=torch.bfloat16).to("cuda")
        net.set_attn_implementation(attn)
        with reduce_clips(net, method(name)) as reduction, torch.no_grad():
            net(**prompt)
            assert answer(net, prompt).shape == (2, 8)
        found[attn] = reduction.report.kept_fraction
    assert found[f"flash_attention_{version}"] == pytest.approx(found["sdpa"], rel=0.2)


@families("qwen2_5_vl", "gemma3")
@torch.no_grad()
def test_attention_maps_are_those_of_the_sequence_each_layer_read(name):
    net, given = build_model(name, attn="eager"), inputs(name)
    with ff.reduce(net, method(name)) as reduction:
        output = net(**given, output_attentions=True, output_hidden_states=True)
    lengths = [layer.length_in for layer in reduction.report.layers]
    assert [tuple(part.shape[-2:]) for part in output.attentions] == [(length, length) for length in lengths]
    assert {state.shape[1] for state in output.hidden_states} == {given["input_ids"].shape[1]}
    assert lengths[-1] < given["input_ids"].shape[1]
