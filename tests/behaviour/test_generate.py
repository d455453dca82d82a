"""Every way of generating that transformers offers and a reduction promises to keep."""

from __future__ import annotations

import pytest
import torch
from transformers import DynamicCache, TextStreamer

import framefusion as ff
from framefusion.engine.model.cache_names import cache_name, cache_of
from framefusion.inference.reduction import reduce_clips
from framefusion.models.placeholders import placeholder_ids
from tests.behaviour.support import (
    CLIP,
    answer,
    continuation,
    every_family,
    few_families,
    identity,
    inputs,
    method,
    model,
)
from tests.support.tiny import processor
from tests.support.tiny import prompt as make_prompt

NEW = 8
WORDS = "abcdefg:, abcdefg, watch this video closely "


@every_family
@torch.no_grad()
def test_the_stages_merge_and_prune_in_ragged_rows(name):
    """What the other tests of this folder rest on."""
    with reduce_clips(model(name), method(name)) as reduction:
        model(name)(**inputs(name))
    plans = [decision.plan for decision in reduction.report.decisions]
    assert any(plan.merges for plan in plans) and any(not plan.merges and plan.kept < plan.count for plan in plans)
    long, short = reduction.report.last.kept_tokens
    assert long != short
    assert reduction.report.layers[-1].length_in < reduction.report.last.prompt_length


@every_family
def test_greedy_without_a_cache_gives_the_same_tokens(name):
    with reduce_clips(model(name), method(name)):
        cached = answer(model(name), inputs(name), NEW)
        assert answer(model(name), inputs(name), NEW, use_cache=False).tolist() == cached.tolist()


@every_family
def test_a_reduction_changes_the_answer_of_some_row(name):
    """Otherwise equal tokens would prove nothing."""
    prompt = inputs(name)
    with torch.no_grad():
        dense = model(name)(**prompt).logits[:, -1]
        with reduce_clips(model(name), method(name)):
            reduced = model(name)(**prompt).logits[:, -1]
    assert (dense - reduced).abs().max() > 1e-3


@every_family
def test_sampling_draws_what_the_dense_model_draws(name):
    options = {"do_sample": True, "temperature": 1.5, "top_k": 20}
    torch.manual_seed(3)
    dense = answer(model(name), inputs(name), NEW, **options)
    with ff.reduce(model(name), identity()):
        torch.manual_seed(3)
        assert answer(model(name), inputs(name), NEW, **options).tolist() == dense.tolist()
    with reduce_clips(model(name), method(name)):
        torch.manual_seed(3)
        first = answer(model(name), inputs(name), NEW, **options)
        torch.manual_seed(3)
        assert answer(model(name), inputs(name), NEW, **options).tolist() == first.tolist()


def repeats_rows(net, prompt):
    """Whether the dense model gives the repeated rows of one prompt equal logits; 5.17 mixes up several images."""
    options = {"max_new_tokens": 1, "return_dict_in_generate": True, "output_logits": True}
    one = net.generate(**prompt, do_sample=False, **options).logits[0].repeat_interleave(3, 0)
    three = net.generate(**prompt, do_sample=True, num_return_sequences=3, **options).logits[0]
    return torch.allclose(one, three, atol=1e-4, rtol=1e-4)


def skip_unless_rows_repeat(net, prompt):
    if not repeats_rows(net, prompt):
        pytest.skip("this transformers mixes up the images of repeated rows, with or without a reduction")


@few_families
def test_beam_search_equals_beam_search_without_a_cache(name):
    skip_unless_rows_repeat(model(name), inputs(name))
    options = {"num_beams": 3, "num_return_sequences": 2}
    with reduce_clips(model(name), method(name)):
        cached = answer(model(name), inputs(name), NEW, **options)
        assert cached.shape == (4, NEW)
        assert answer(model(name), inputs(name), NEW, use_cache=False, **options).tolist() == cached.tolist()


@few_families
def test_the_identity_under_beam_search_equals_the_dense_model(name):
    dense = answer(model(name), inputs(name), NEW, num_beams=3)
    with ff.reduce(model(name), identity()):
        assert answer(model(name), inputs(name), NEW, num_beams=3).tolist() == dense.tolist()


@few_families
def test_several_answers_of_one_prompt(name):
    """Rows are repeated inside `generate`; the repeated prompt must reduce like the original."""
    skip_unless_rows_repeat(model(name), inputs(name))
    options = {"do_sample": True, "num_return_sequences": 3, "return_dict_in_generate": True, "output_logits": True}
    with reduce_clips(model(name), method(name)) as reduction:
        alone = model(name).generate(
            **inputs(name), max_new_tokens=2, do_sample=False, return_dict_in_generate=True, output_logits=True
        )
        kept = reduction.report.last.kept_tokens
        repeated = model(name).generate(**inputs(name), max_new_tokens=2, **options)
    assert reduction.report.last.kept_tokens == [count for count in kept for _ in range(3)]
    expected = alone.logits[0].repeat_interleave(3, 0)
    torch.testing.assert_close(repeated.logits[0], expected, atol=1e-4, rtol=1e-4)


@every_family
def test_prompt_lookup_gives_the_greedy_tokens(name):
    """Guesses are found in the text before the video; one with a placeholder in it would stop the dense model too."""
    if name == "qwen3_5":
        pytest.skip("its recurrent layers cannot go back, so transformers refuses prompt lookup for it")
    net, prompt = model(name), make_prompt(name, [[("text", WORDS), ("video", CLIP), ("text", "abcd?")]])
    with reduce_clips(net, method(name)) as reduction:
        greedy = answer(net, prompt, 24)
        one_by_one = reduction.report.decode_steps
        found = answer(net, prompt, 24, prompt_lookup_num_tokens=4, max_matching_ngram_size=2)
        assert found.tolist() == greedy.tolist()
        several = reduction.report.decode_steps - one_by_one
        assert several <= one_by_one


@every_family
@pytest.mark.parametrize("act", [identity, None], ids=["identity", "method"])
def test_prompt_lookup_proposes_no_placeholder(name, act):
    """The prompt ends in the words in front of its pictures, as chats do; many a dense model fails on what follows."""
    if name == "qwen3_5":
        pytest.skip("its recurrent layers cannot go back, so transformers refuses prompt lookup for it")
    net, prompt = model(name), make_prompt(name, [[("text", "so "), ("video", CLIP), ("text", "so ")]])
    visual = torch.isin(prompt["input_ids"], torch.tensor(placeholder_ids(net.config)))[0]
    before = int(visual.nonzero()[0]) - 1
    for key in ("input_ids", "attention_mask", "mm_token_type_ids", "token_type_ids"):
        if key in prompt:
            prompt[key] = torch.cat([prompt[key], prompt[key][:, before : before + 1]], 1)
    with ff.reduce(net, act() if act else method(name)):
        greedy = answer(net, prompt, 8).tolist()
        assert answer(net, prompt, 8, prompt_lookup_num_tokens=4).tolist() == greedy


@few_families
def test_streaming_shows_the_answer(name, capsys):
    tokenizer = processor(name).tokenizer
    with reduce_clips(model(name), method(name)):
        tokens = answer(model(name), inputs(name, "long"), NEW, streamer=TextStreamer(tokenizer, skip_prompt=True))
    assert capsys.readouterr().out.strip() == tokenizer.decode(tokens[0]).strip()


@every_family
@torch.no_grad()
def test_a_bare_loop_gives_the_tokens_of_generate(name):
    """The loop hands over no positions: the model must derive the same ones from the cache."""
    prompt, net = inputs(name, "long"), model(name)
    with reduce_clips(net, method(name)):
        expected = answer(net, prompt, NEW)
        cache, tokens = DynamicCache(config=net.config.get_text_config()), []
        step = net(**prompt, **{cache_name(): cache}, use_cache=True)
        for _ in range(NEW):
            tokens.append(step.logits[:, -1:].argmax(-1))
            step = net(input_ids=tokens[-1], **{cache_name(): cache}, use_cache=True)
    assert torch.cat(tokens, 1).tolist() == expected.tolist()


@few_families
@torch.no_grad()
def test_a_bare_loop_over_ragged_rows(name):
    prompt, net = inputs(name), model(name)
    with reduce_clips(net, method(name)):
        expected = answer(net, prompt, NEW)
        tokens, step = [], net(**prompt, use_cache=True)
        for done in range(NEW):
            tokens.append(step.logits[:, -1:].argmax(-1))
            options = continuation(name, net, prompt, done, 1)
            step = net(input_ids=tokens[-1], **{cache_name(): cache_of(step)}, use_cache=True, **options)
    assert torch.cat(tokens, 1).tolist() == expected.tolist()
