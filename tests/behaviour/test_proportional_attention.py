"""Proportional attention: a merged token counts in every later attention call as often as it has originals."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from functools import cache
from importlib.util import find_spec

import pytest
import torch
import transformers as hf
from transformers.cache_utils import DynamicLayer, QuantizedCache

import framefusion as ff
from framefusion.core.errors import AttentionError, OptionError
from framefusion.core.method import before
from framefusion.core.plan import Plan
from framefusion.core.stage import DecoderStage
from framefusion.engine.model.cache_names import cache_name, cache_of
from framefusion.engine.weighted_attention import attend_weighted, with_channels
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
)
from tests.support.cases import assert_near
from tests.support.kernels import FLASH, set_attention, use_plain_flash, use_plain_flex, use_plain_quanto
from tests.support.tiny import build_model, redraw

needs_quanto = pytest.mark.skipif(find_spec("optimum") is None, reason="the quantised cache needs optimum-quanto")
KERNELS = {"sdpa": None, "eager": None, FLASH: use_plain_flash, "flex_attention": use_plain_flex}
# Patch numbers; a run of one number is so many copies of one token at one position.
COPIES = [0, 1, 1, 1, 1, 2, 3, 3, 3, 4, 5, 5]
TYPES = [-1] * 3 + COPIES + [-1] * 4
LATER = torch.tensor([[7, 8, 9]])


@dataclass(frozen=True)
class JoinCopies(ff.Method):
    """Tokens of one patch number become one."""

    layer: int = 0
    proportional_attention: bool = True
    facts = ff.MethodFacts("join_copies", "Join copies", "", "joins copies", "before a layer", merges=True, identity={})

    def stages(self):
        return (DecoderStage(before(self.layer), self.decide, needs=frozenset()),)

    def decide(self, signals):
        patch = signals.geometry.patch
        return Plan.merge((patch[:, None] == patch[None]).to(torch.int8).argmax(1), signals.size)


@pytest.fixture(params=KERNELS)
def kernel(request, monkeypatch):
    if KERNELS[request.param] is not None:
        KERNELS[request.param](monkeypatch)
    return request.param


@cache
def _decoder():
    sizes = {"num_hidden_layers": 3, "hidden_size": 48, "intermediate_size": 64, "num_attention_heads": 4}
    config = hf.Qwen2Config(vocab_size=300, num_key_value_heads=2, **sizes)
    net = hf.Qwen2ForCausalLM(config).eval()
    redraw(net, 0)
    net.generation_config.eos_token_id = None
    net.generation_config.pad_token_id = 0
    return net


def decoder(kernel):
    """A text decoder of grouped heads; set back by `set_attention` whenever another kernel is asked for."""
    net = _decoder()
    set_attention(net, kernel)
    return net


def positions(types=TYPES, later=0):
    """(1, L): copies share a position."""
    places, place = [], -1
    for column, kind in enumerate(types):
        place += not (column and kind >= 0 and kind == types[column - 1])
        places.append(place)
    return torch.tensor([places + [places[-1] + 1 + step for step in range(later)]])


def embeddings(types=TYPES, seed=0):
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(1, len(types), 48, generator=generator)
    for kind in set(types) - {-1}:
        columns = [column for column, other in enumerate(types) if other == kind]
        values[:, columns] = values[:, columns[:1]]
    return values


def copies_see_each_other(later):
    """(1, 1, L, L) the mask under which k copies are one token of size k: each of them sees the others."""
    kind = torch.tensor(TYPES + [-1] * later)
    column = torch.arange(len(kind))
    seen = column[None] <= column[:, None]
    seen |= (kind[:, None] == kind[None]) & (kind[:, None] >= 0)
    return torch.zeros(seen.shape).masked_fill(~seen, torch.finfo(torch.float32).min)[None, None]


@torch.no_grad()
def read_as_copies(later):
    """(Q, V) logits of the text behind the copies, from the unreduced model that reads every one of them."""
    net = decoder("eager")
    states = torch.cat([embeddings(), net.get_input_embeddings()(LATER[:, :later])], 1)
    mask = copies_see_each_other(later)
    out = net(inputs_embeds=states, attention_mask=mask, position_ids=positions(later=later), use_cache=False)
    return out.logits[0, len(TYPES) - 4 :]


@torch.no_grad()
def read_as_one(net, steps, method=JoinCopies()):
    """The same of the reduced model. steps: lengths of the calls that read the tokens behind the prompt."""
    ones = torch.ones(1, len(TYPES), dtype=torch.long)
    with ff.reduce(net, method, layout=ff.Layout.from_patch_types([TYPES])):
        out = net(
            inputs_embeds=embeddings(), attention_mask=ones, position_ids=positions()[:, : len(TYPES)], use_cache=True
        )
        logits, done = [out.logits[0, -4:]], 0
        for count in steps:
            done += count
            given = {
                "attention_mask": torch.ones(1, len(TYPES) + done, dtype=torch.long),
                "position_ids": positions(later=done)[:, -count:],
                cache_name(): cache_of(out),
            }
            out = net(input_ids=LATER[:, done - count : done], use_cache=True, **given)
            logits.append(out.logits[0])
    return torch.cat(logits)


@pytest.mark.parametrize("steps", [(), (1, 1, 1), (3,), (2, 1)], ids=["prefill", "decoding", "turn", "both"])
def test_a_token_of_size_k_is_k_copies_of_it(kernel, steps):
    expected = read_as_copies(sum(steps))
    found = read_as_one(decoder(kernel), steps)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    plain = read_as_one(decoder(kernel), steps, JoinCopies(proportional_attention=False))
    assert (plain - expected).abs().max() > 1e-3


def test_copies_that_do_not_see_each_other_are_one_token_in_the_last_layer(kernel):
    """Plainly causal copies have the same keys in the layer they enter, and are read there by what follows."""
    net, last = decoder(kernel), 2
    ones = torch.ones(1, len(TYPES), dtype=torch.long)
    given = {"inputs_embeds": embeddings(), "attention_mask": ones, "position_ids": positions()}
    layers, net.model.layers = net.model.layers, net.model.layers[last:]
    try:
        with torch.no_grad():
            expected = net(**given, use_cache=False).logits[0, -4:]
            with ff.reduce(net, JoinCopies(), layout=ff.Layout.from_patch_types([TYPES])):
                found = net(**given, use_cache=False).logits[0, -4:]
    finally:
        net.model.layers = layers
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def weighted(name, cost=None):
    return replace(method(name, cost), proportional_attention=True)


@every_family
@torch.no_grad()
def test_where_nothing_merges_no_bit_changes(name):
    net, prompt = model(name), inputs(name)
    for way in (identity(), ff.SpatialPool(keep=1.0), ff.DivPrune(keep=0.4)):
        with ff.reduce(net, way, pictures_are_frames=True):
            expected = net(**prompt).logits, answer(net, prompt)
        with ff.reduce(net, way, pictures_are_frames=True, proportional_attention=True):
            found = net(**prompt).logits, answer(net, prompt)
        assert all(map(torch.equal, found, expected))


@few_families
def test_every_kind_of_generation_is_as_greedy_as_one_by_one(name):
    net, prompt = model(name), inputs(name)
    with reduce_clips(net, method(name)):
        plain = answer(net, prompt).tolist()
    with reduce_clips(net, weighted(name)) as reduction:
        expected = answer(net, prompt).tolist()
        assert answer(net, prompt, use_cache=False).tolist() == expected
        beams = answer(net, prompt, num_beams=3).tolist()
        assert answer(net, prompt, num_beams=3, use_cache=False).tolist() == beams
        long = inputs(name, "long")
        if name != "qwen3_5":  # transformers drafts for no model that keeps a recurrent state
            assert answer(net, long, prompt_lookup_num_tokens=3).tolist() == answer(net, long).tolist()
        assert reduction.report.kept_fraction < 1
    dense = answer(net, prompt).tolist()
    assert dense == answer(model(name), prompt).tolist()
    with reduce_clips(net, method(name)):
        assert answer(net, prompt).tolist() == plain


@families("qwen2_5_vl", "gemma3", "llava_onevision")
@torch.no_grad()
def test_sizes_follow_a_cache_that_is_cut_copied_and_reordered(name):
    net, prompt = model(name), inputs(name)
    more = torch.tensor([[21, 22, 23], [41, 42, 43]])
    order = torch.tensor([1, 0])

    def go_on(cache, rows, tokens, done=0):
        cut = {"attention_mask": prompt["attention_mask"][rows]}
        deltas = getattr(net.model, "rope_deltas", None)
        if deltas is not None and len(deltas) == len(rows):
            net.model.rope_deltas = first[rows]
        options = continuation(name, net, cut, done, tokens.shape[1])
        return net(input_ids=tokens, **{cache_name(): cache}, use_cache=True, **options).logits

    with reduce_clips(net, weighted(name)):
        cache = cache_of(net(**prompt, use_cache=True))
        first = getattr(net.model, "rope_deltas", None)
        both = torch.tensor([0, 1])
        expected = go_on(copy.deepcopy(cache), both, more)
        assert_near(go_on(copy.deepcopy(cache), both, more[:, :1]), expected[:, :1])
        fork = copy.deepcopy(cache)
        go_on(fork, both, more.flip(1))
        if name != "gemma3":  # a full window cannot be cut
            fork.crop(-3)
            assert_near(go_on(fork, both, more), expected)
        cache.reorder_cache(order)
        assert_near(go_on(cache, order, more[order]), expected[order])


@families("qwen2_5_vl", "llava_onevision", "smolvlm")
@needs_quanto
def test_a_quantised_cache_keeps_the_sizes(name, monkeypatch):
    """Of four bits are keys and values alone; a step reads them as a cache of the same numbers, unquantised."""
    use_plain_quanto(monkeypatch)
    net, prompt = model(name), inputs(name)
    caches, logits = {}, {}
    for weighs in (True, False):
        way = replace(method(name), proportional_attention=weighs)
        with ff.reduce(net, way) as reduction, torch.no_grad():
            cache = QuantizedCache("quanto", net.config.get_text_config(), nbits=4, q_group_size=16, residual_length=64)
            cache = caches[weighs] = cache_of(net(**prompt, **{cache_name(): cache}, use_cache=True))
            rounded = copy.copy(cache)
            rounded.layers = [
                type(layer)(_dynamic(layer.inner), layer.keys_seen, layer.logical_length, layer._owner)
                for layer in cache.layers
            ]
            expected, logits[weighs] = (last_logits(name, net, prompt, one) for one in (rounded, cache))
        assert reduction.report.kept_fraction < 1
        assert_near(logits[weighs], expected)
    assert all(layer.keys_seen.size is None for layer in caches[False].layers)
    assert all(layer.keys_seen.size.max() > 1 for layer in caches[True].layers)
    assert (logits[True] - logits[False]).abs().max() > 1e-3


def _dynamic(layer):
    """A plain layer of the numbers that a quantised one returns."""
    plain = DynamicLayer()
    plain.update(layer._dequantize(layer._quantized_keys), layer._dequantize(layer._quantized_values))
    return plain


def last_logits(name, net, prompt, cache):
    more = torch.tensor([[21], [41]])
    return net(input_ids=more, **{cache_name(): cache}, use_cache=True, **continuation(name, net, prompt, 0, 1)).logits


@families("qwen2_5_vl", "llava_onevision")
@pytest.mark.parametrize("name_of_kernel", [FLASH, "flex_attention"])
@torch.no_grad()
def test_a_kernel_reads_real_prompts_as_sdpa_does(name, name_of_kernel, monkeypatch):
    KERNELS[name_of_kernel](monkeypatch)
    net = build_model(name)
    way = replace(weighted(name), similarity_lower_bound=weighted(name).similarity_lower_bound + 1e-3)
    for rows in ("long", "ragged"):
        prompt = inputs(name, rows)
        with ff.reduce(model(name), way):
            expected, tokens = model(name)(**prompt).logits, answer(model(name), prompt, 3)
        set_attention(net, name_of_kernel)
        set_attention(getattr(net.model, "visual", None) or net.model.vision_tower, "sdpa")
        with ff.reduce(net, way):
            found = net(**prompt).logits
            assert answer(net, prompt, 3).tolist() == tokens.tolist()
        real = prompt["attention_mask"].bool()
        torch.testing.assert_close(found[real], expected[real], atol=2e-4, rtol=1e-3)


@families("qwen2_5_vl", "gemma3")
@pytest.mark.parametrize("reentrant", [None, False, True])
def test_gradients_with_checkpoints_are_those_without(name, reentrant):
    prompt = inputs(name, "long")
    labels = torch.full_like(prompt["input_ids"], -100)
    labels[:, -3:] = prompt["input_ids"][:, -3:]
    found = []
    for checkpoints in (False, True):
        net = build_model(name).train()
        if checkpoints and reentrant is not None:
            net.gradient_checkpointing_enable({"use_reentrant": reentrant})
        with reduce_clips(net, weighted(name)):
            net(**prompt, labels=labels, use_cache=False).loss.backward()
        found.append({path: weight.grad for path, weight in net.named_parameters() if weight.grad is not None})
    for path, gradient in found[0].items():
        torch.testing.assert_close(found[1][path], gradient, atol=1e-4, rtol=1e-3)


def test_scores_are_those_of_the_weighted_attention():
    """What a later stage is told of attention is what the softmax gave."""
    seen = {}

    @dataclass(frozen=True)
    class Look(JoinCopies):
        def stages(self):
            def look(signals):
                seen[self.proportional_attention] = signals.text_attention()
                return Plan.identity(len(signals))

            return (*super().stages(), DecoderStage(before(1), look, needs=frozenset({"text_attention"})))

    for weighs in (False, True):
        read_as_one(decoder("eager"), (), Look(proportional_attention=weighs))
    sizes = torch.tensor([float(COPIES.count(kind)) for kind in sorted(set(COPIES))])
    ratio = seen[True] / seen[False] / sizes
    torch.testing.assert_close(ratio, ratio[..., :1].expand_as(ratio), rtol=1e-4, atol=0)
    assert seen[True].sum() > seen[False].sum()


def test_options_of_methods_and_of_reduce():
    net = model("qwen2_5_vl")
    with ff.reduce(net, ff.FrameFusion(proportional_attention=True), proportional_attention=False) as reduction:
        assert not reduction.method.proportional_attention
    chain = ff.Chain(ff.FrameFusion(), ff.FastV())
    with ff.reduce(net, chain, proportional_attention=True) as reduction:
        assert reduction.method.methods[0].proportional_attention
    for wrong in ("yes", 1):
        with pytest.raises(OptionError, match="proportional_attention"):
            ff.reduce(net, ff.FrameFusion(), proportional_attention=wrong)
    for strict in (ff.FrameFusion, ff.VisionZip, ff.PruMerge):
        with pytest.raises(OptionError, match="strict"):
            strict(strict=True, proportional_attention=True)


def test_every_method_that_merges_offers_it():
    """But those whose weights were trained without it."""
    found = {facts["name"] for facts in ff.list_methods() if "proportional_attention" in facts["options"]}
    assert found == {facts["name"] for facts in ff.list_methods() if facts["merges"] and not facts["trained"]}


def test_sage_is_refused_and_its_emulation_is_not(monkeypatch):
    net = decoder("sage-emulated")
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    from framefusion.inference.quantization.attention import _emulated, _sage

    for name, function in (("sage", _sage), ("sage-emulated", _emulated)):
        monkeypatch.setitem(ALL_ATTENTION_FUNCTIONS._global_mapping, name, function)
        monkeypatch.setitem(ALL_MASK_ATTENTION_FUNCTIONS._global_mapping, name, ALL_MASK_ATTENTION_FUNCTIONS["sdpa"])
    expected = read_as_copies(1)
    plain = (read_as_one(net, (1,), JoinCopies(proportional_attention=False)) - expected).abs().mean()
    assert (read_as_one(net, (1,)) - expected).abs().mean() < 0.2 * plain
    with pytest.raises(AttentionError, match="sage"):
        read_as_one(decoder("sage"), ())
    assert decoder("sdpa").config._attn_implementation == "sdpa"


def test_kernels_without_a_place_for_the_weight_are_refused(monkeypatch):
    use_plain_flash(monkeypatch)
    with pytest.raises(AttentionError, match="caps"):
        weighted_call(FLASH, 16, softcap=30.0)
    with pytest.raises(AttentionError, match="channels"):
        weighted_call(FLASH, 256)
    assert weighted_call("sdpa", 256).shape == (1, 5, 2, 256)


def weighted_call(base, width, **given):
    query, key, value = torch.randn(3, 1, 2, 5, width)

    def function(module, query, key, value, mask, scaling, **given):
        return torch.nn.functional.scaled_dot_product_attention(
            query, key, value, is_causal=True, scale=scaling
        ).transpose(1, 2), None

    weight = torch.tensor([[0.0, 1.0, 2.0, 0.0, 3.0]])
    return attend_weighted(base, base == FLASH, function, None, (query, key, value), None, weight=weight, **given)[0]


@pytest.mark.parametrize("softcap", [None, 5.0])
def test_a_capped_flex_attention_adds_the_weight_behind_the_cap(softcap, monkeypatch):
    use_plain_flex(monkeypatch)
    from torch.nn.attention.flex_attention import create_block_mask
    from transformers.integrations.flex_attention import flex_attention_forward

    generator = torch.Generator().manual_seed(1)
    query, key, value = torch.randn(3, 2, 2, 6, 16, generator=generator)
    weight = torch.randint(1, 9, (2, 6), generator=generator).float().log()
    mask = create_block_mask(lambda b, h, q, k: k <= q, 2, None, 6, 6, device="cpu")
    states, module = (query, key, value), torch.nn.Module().eval()
    options = {"scaling": 0.25, "softcap": softcap}
    found = attend_weighted(
        "flex_attention", False, flex_attention_forward, module, states, mask, weight=weight, **options
    )[0]
    logits = query @ key.transpose(-1, -2) * 0.25
    logits = logits if softcap is None else softcap * torch.tanh(logits / softcap)
    logits = (logits + weight[:, None, None]).masked_fill(torch.ones(6, 6).triu(1).bool(), float("-inf"))
    torch.testing.assert_close(found, (logits.softmax(-1) @ value).transpose(1, 2), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize("width", [16, 61, 80, 128])
def test_channels_add_the_weight_to_the_product_of_any_width(dtype, width):
    """Three half-precision numbers add up to what float32 holds, so rounding costs the weight nothing."""
    query, key, value = torch.zeros(3, 1, 2, 7, width, dtype=dtype)
    size = torch.tensor([[1.0, 2.0, 3.0, 7.0, 32.0, 100.0, 3000.0]])
    query, key, value = with_channels(query, key, value, size.log() * width**0.5)
    assert query.shape[-1] % 8 == 0 and query.shape[-1] == key.shape[-1] == value.shape[-1]
    product = (query.float() @ key.float().transpose(-1, -2)) * width**-0.5
    torch.testing.assert_close(product[0, 0], size.log().expand(7, 7), atol=1e-5, rtol=1e-5)


def test_attention_without_the_interface_is_refused():
    net = own_attention()
    with pytest.raises(AttentionError, match="interface"):
        read_as_one(net, ())
    read_as_one(net, (1,), JoinCopies(proportional_attention=False))


def own_attention():
    """A decoder whose attention calls its kernel by itself."""
    config = decoder("sdpa").config
    net = hf.Qwen2ForCausalLM(hf.Qwen2Config.from_dict(config.to_dict())).eval()
    for layer in net.model.layers:
        attention = layer.self_attn

        def forward(hidden_states, attention_mask=None, attention=attention, **given):
            return attention.o_proj(attention.q_proj(hidden_states)), None

        attention.forward = forward
    return net
