"""The identity setting runs through every hook with a plan that keeps everything, and changes no bit."""

from __future__ import annotations

import pytest
import torch

import framefusion as ff
from framefusion.core.method import after_attention, before
from framefusion.engine.model.cache_names import cache_of
from tests.support.cases import both_attentions, every_family, inputs_of, model_of, reduced

IDENTITY = ff.FrameFusion(cost=1.0)
PADDINGS = {"none": (("full",), "left"), "left": (("full", "text"), "left"), "right": (("full", "text"), "right")}
every_padding = pytest.mark.parametrize("padding", list(PADDINGS))


def batch(family, padding):
    rows, side = PADDINGS[padding]
    return inputs_of(family, *rows, padding_side=side)


def labels_of(inputs):
    return inputs["input_ids"].masked_fill(inputs["attention_mask"] == 0, -100)


@every_family
@both_attentions
@every_padding
def test_prefill_is_bit_equal(family, attn, padding):
    model, inputs = model_of(family, attn), batch(family, padding)
    inputs["labels"] = labels_of(inputs)
    with torch.no_grad():
        plain = model(**inputs, output_hidden_states=True)
    output, report = reduced(model, IDENTITY, inputs, output_hidden_states=True)
    layers = len(model.get_decoder().layers)
    assert [d.point for d in report.decisions] == [before(0), *(after_attention(layer) for layer in range(layers))]
    for decision in report.decisions:
        assert decision.row == 0
        assert torch.equal(decision.plan.keep, torch.arange(decision.plan.count)) and not decision.plan.merges
    assert torch.equal(output.logits, plain.logits)
    assert torch.equal(output.loss, plain.loss)
    for ours, theirs in zip(output.hidden_states, plain.hidden_states, strict=True):
        assert torch.equal(ours, theirs)
    for ours, theirs in zip(cache_of(output).layers, cache_of(plain).layers, strict=True):
        if getattr(theirs, "keys", None) is not None:
            assert torch.equal(ours.keys, theirs.keys) and torch.equal(ours.values, theirs.values)


@every_family
@both_attentions
@pytest.mark.parametrize("padding", ["none", "left"])
@pytest.mark.parametrize("cached", [True, False], ids=["cache", "no-cache"])
def test_generation_is_bit_equal(family, attn, padding, cached):
    model, inputs = model_of(family, attn), batch(family, padding)
    options = {"max_new_tokens": 4, "do_sample": False, "use_cache": cached}
    plain = model.generate(**inputs, **options, return_dict_in_generate=True, output_logits=True)
    with ff.reduce(model, IDENTITY) as reduction:
        ours = model.generate(**inputs, **options, return_dict_in_generate=True, output_logits=True)
    assert reduction.report.decisions
    assert torch.equal(ours.sequences, plain.sequences)
    for step, expected in zip(ours.logits, plain.logits, strict=True):
        assert torch.equal(step, expected)
