"""Tokens after a reduced prompt read the reduced cache as the oracle reads the whole sequence under the same plans."""

from __future__ import annotations

import pytest
import torch

from framefusion.engine.model.cache_names import cache_name, cache_of
from framefusion.inference.reduction import reduce_clips
from tests.support.cases import (
    METHODS,
    assert_near,
    both_attentions,
    both_methods,
    every_family,
    inputs_of,
    model_of,
    oracle_of,
    real_columns,
    reduced,
)
from tests.support.oracle import acts_of

STEPS = 4


@torch.no_grad()
def generated(model, method, inputs, **options):
    with reduce_clips(model, method) as reduction:
        out = model.generate(
            **inputs,
            max_new_tokens=STEPS,
            do_sample=False,
            return_dict_in_generate=True,
            output_logits=True,
            **options,
        )
    tokens = out.sequences[:, inputs["input_ids"].shape[1] :]
    return tokens, torch.stack(out.logits, 1), reduction.report


@every_family
@both_attentions
@both_methods
@pytest.mark.parametrize("rows", [("full",), ("full", "short", "text")], ids=["alone", "left"])
def test_every_step_equals_the_oracle(family, attn, method, rows):
    model, inputs = model_of(family, attn), inputs_of(family, *rows)
    tokens, logits, report = generated(model, method, inputs)
    for number, name in enumerate(rows):
        acts = acts_of(report.decisions, number, int(real_columns(inputs, number)[0]))
        answer = oracle_of(family, name, attn).extended(tokens[number, :-1].tolist()).run(acts)
        assert_near(logits[number], answer.logits[-STEPS:])
        assert tokens[number].tolist() == answer.logits[-STEPS:].argmax(-1).tolist()


@every_family
@both_methods
def test_without_a_cache_every_step_reduces_the_prompt_again(family, method):
    """The same answer as with a cache: later tokens must not change what is kept of the prompt."""
    model, inputs = model_of(family), inputs_of(family, "full", "short")
    cached, cached_logits, _ = generated(model, method, inputs)
    tokens, logits, report = generated(model, method, inputs, use_cache=False)
    assert report.prompts == STEPS and report.decode_steps == 0
    assert tokens.tolist() == cached.tolist()
    assert_near(logits, cached_logits)


def next_call(model, step, mask):
    """Arguments of a bare call with the tokens `step`: stock Qwen models cannot place padded rows without positions."""
    given = {"input_ids": step}
    deltas = getattr(model.model, "rope_deltas", None)
    if not bool(mask.all()):
        given["attention_mask"] = mask
        if deltas is not None:
            place = (mask.cumsum(1) - 1)[:, -step.shape[1] :] + deltas
            given["position_ids"] = place.expand(3, -1, -1)
    return given


@every_family
@both_attentions
@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("rows", [("full",), ("full", "short")], ids=["alone", "left"])
def test_plain_calls_on_the_cache(family, attn, size, rows):
    """A loop of bare model calls, token by token and several at once, behind a reduced prompt."""
    model, inputs = model_of(family, attn), inputs_of(family, *rows)
    more = (torch.arange(6) + 40).expand(len(rows), -1)
    found = []
    with torch.no_grad(), reduce_clips(model, METHODS["framefusion"]) as reduction:
        cache = cache_of(model(**inputs, use_cache=True))
        mask = inputs["attention_mask"]
        for step in more.split(size, 1):
            mask = torch.cat([mask, torch.ones_like(step)], 1)
            found.append(model(**next_call(model, step, mask), **{cache_name(): cache}, use_cache=True).logits)
    for number, name in enumerate(rows):
        acts = acts_of(reduction.report.decisions, number, int(real_columns(inputs, number)[0]))
        answer = oracle_of(family, name, attn).extended(more[number].tolist()).run(acts)
        assert_near(torch.cat(found, 1)[number], answer.logits[-more.shape[1] :])


@every_family
def test_the_cache_grows_by_one_entry_per_token(family):
    model, inputs = model_of(family), inputs_of(family, "full")
    method = METHODS["framefusion"]
    prefill, _ = reduced(model, method, inputs)
    with reduce_clips(model, method):
        out = model.generate(**inputs, max_new_tokens=STEPS, do_sample=False, return_dict_in_generate=True)
    for before, after in zip(cache_of(prefill).layers, cache_of(out).layers, strict=True):
        if getattr(before, "keys", None) is not None:
            grown = before.keys.shape[-2] + STEPS - 1
            window = before.sliding_window - 1 if getattr(before, "is_sliding", False) else grown
            assert after.keys.shape[-2] == min(grown, window)
