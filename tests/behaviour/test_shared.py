"""Two models on one configuration object, another attention in the meantime, and copies of a reduced model."""

from __future__ import annotations

import copy
import gc
import io
import itertools
import pickle

import pytest
import torch

from framefusion.core.errors import OptionError, StaleCacheError
from framefusion.engine import attention_names
from framefusion.engine.model.cache_names import cache_name, cache_of
from framefusion.inference.quantization import Precision, quantize
from framefusion.inference.reduction import reduce_clips
from tests.behaviour.support import answer, continuation, families, few_families, inputs, method, model
from tests.support.tiny import build_model

NARROW = Precision.parse("attention=sage-emulated")
PAIRS = families("qwen2_5_vl", "llava_onevision", "gemma3")


def named(net):
    return {id(m.config): m.config._attn_implementation_internal for m in net.modules() if hasattr(m, "config")}


@torch.no_grad()
def logits(net, name):
    return net(**inputs(name, "long")).logits


@pytest.fixture
def pair(name):
    first = build_model(name)
    second = type(first)(first.config).eval()
    second.load_state_dict(first.state_dict())
    return first, second


@PAIRS
@pytest.mark.parametrize("enter, leave", list(itertools.product([(0, 1), (1, 0)], repeat=2)))
def test_the_last_reduction_out_restores_the_attention(name, pair, enter, leave):
    dense, before = logits(pair[0], name), named(pair[0])
    held = {number: reduce_clips(pair[number], method(name)) for number in enter}
    expected = [logits(net, name) for net in pair]
    held[leave[0]].remove()
    assert torch.equal(logits(pair[leave[0]], name), dense)
    assert torch.equal(logits(pair[leave[1]], name), expected[leave[1]])
    held[leave[1]].remove()
    assert named(pair[0]) == named(pair[1]) == before
    assert all(torch.equal(logits(net, name), dense) for net in pair)


@PAIRS
def test_a_reduction_dropped_with_its_model_leaves_the_other_one_dense(name):
    net = build_model(name)
    dense, before = logits(net, name), named(net)
    reduce_clips(type(net)(net.config).eval(), method(name))
    gc.collect()
    assert named(net) == before
    assert torch.equal(logits(net, name), dense)


@PAIRS
@pytest.mark.parametrize("leave", list(itertools.permutations(range(3))))
def test_narrow_attention_and_reductions_of_a_pair(name, pair, leave):
    dense, before = logits(pair[0], name), named(pair[0])
    held = [quantize(pair[0], NARROW), reduce_clips(pair[1], method(name))]
    held.append(quantize(pair[1], NARROW))
    for number in leave:
        held[number].remove()
    assert named(pair[0]) == before
    assert all(torch.equal(logits(net, name), dense) for net in pair)


def test_other_attention_of_a_shared_configuration_is_refused():
    config = build_model("qwen2_5_vl").config.get_text_config()
    first = attention_names.AttentionOverride(config, "sage-emulated", owner=object())
    with pytest.raises(OptionError, match="shares the configuration"):
        attention_names.AttentionOverride(config, "sage", owner=object())
    first.remove()
    assert config._attn_implementation == "sdpa"


@few_families
@pytest.mark.parametrize("choice", ["eager", "sdpa"])
def test_another_attention_inside_the_block_is_observed_and_stays(name, choice):
    net, other = build_model(name), model(name, attn=choice)
    with reduce_clips(other, method(name)):
        expected = answer(other, inputs(name)).tolist()
    with reduce_clips(net, method(name)) as reduction:
        answer(net, inputs(name), 2)
        net.set_attn_implementation(choice)
        assert answer(net, inputs(name)).tolist() == expected
        assert reduction.report.prompts == 2
    assert set(named(net).values()) == {choice}
    assert torch.equal(logits(net, name), logits(other, name))


def through_pickle(net):
    return pickle.loads(pickle.dumps(net))


def through_a_file(net):
    file = io.BytesIO()
    torch.save(net, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


def averaged(net):
    return torch.optim.swa_utils.AveragedModel(net).module


@few_families
@pytest.mark.parametrize("way", [copy.deepcopy, averaged, through_pickle, through_a_file], ids=lambda f: f.__name__)
def test_a_copy_is_dense_and_independent(name, way):
    net = build_model(name)
    with reduce_clips(net, method(name)) as reduction:
        twin = way(net)
        expected, dense = logits(net, name), logits(model(name), name)
        assert torch.equal(logits(twin, name), dense)
        assert answer(twin, inputs(name)).tolist() == answer(model(name), inputs(name)).tolist()
        assert reduction.report.prompts == 1
        with reduce_clips(twin, method(name)):
            assert torch.equal(logits(twin, name), expected)
        assert torch.equal(logits(net, name), expected)
    assert torch.equal(logits(twin, name), dense)
    for original, other in zip(model(name).modules(), twin.modules(), strict=True):
        assert {"generate", "__getstate__"}.isdisjoint(vars(other))
        assert len(other._forward_pre_hooks) == len(original._forward_pre_hooks)
    assert copy.deepcopy(twin.config) == model(name).config


@few_families
def test_a_copied_configuration_names_the_attention_itself(name):
    net = build_model(name)
    with reduce_clips(net, method(name)):
        copies = [copy.deepcopy(net.config), pickle.loads(pickle.dumps(net.config))]
        for config in copies:
            assert config.get_text_config()._attn_implementation == "sdpa"
            assert type(net)(config).get_decoder().config._attn_implementation == "sdpa"


@few_families
@torch.no_grad()
def test_a_fork_of_a_conversation(name):
    """Two answers to one reduced prompt: the fork goes on by itself, and the original does not notice."""
    net, prompt = model(name), inputs(name, "long")
    first, second = torch.tensor([[11, 12]]), torch.tensor([[21, 22]])

    def go_on(cache, tokens):
        given = continuation(name, net, prompt, 0, 2)
        return net(input_ids=tokens, **{cache_name(): cache}, use_cache=True, **given).logits

    with reduce_clips(net, method(name)):
        expected = [go_on(cache_of(net(**prompt, use_cache=True)), tokens) for tokens in (first, second)]
        cache = cache_of(net(**prompt, use_cache=True))
        fork = copy.deepcopy(cache)
        assert torch.equal(go_on(fork, second), expected[1])
        assert torch.equal(go_on(cache, first), expected[0])
        with pytest.raises(StaleCacheError, match="hint"):
            pickle.dumps(cache)
    with pytest.raises(StaleCacheError):
        go_on(fork, first)
