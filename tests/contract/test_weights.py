"""Layers of a reduced model that weighs merged tokens, against bare layers that add log(size) to their masks."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from framefusion.inference.reduction import reduce_clips
from tests.support.cases import (
    METHODS,
    assert_near,
    both_attentions,
    every_family,
    inputs_of,
    model_of,
    oracle_of,
    real_columns,
)
from tests.support.oracle import acts_of
from tests.support.scripted import Scripted

STEPS = 4
WAYS = {"framefusion": replace(METHODS["framefusion"], proportional_attention=True), "scripted": Scripted()}


@every_family
@both_attentions
@pytest.mark.parametrize("way", WAYS)
@torch.no_grad()
def test_every_step_of_a_padded_batch_equals_the_oracle(family, attn, way):
    rows = ("full", "short", "text")
    net, given = model_of(family, attn), inputs_of(family, *rows)
    options = {"max_new_tokens": STEPS, "do_sample": False, "return_dict_in_generate": True, "output_logits": True}
    with reduce_clips(net, WAYS[way], proportional_attention=True) as reduction:
        out = net.generate(**given, **options)
    tokens, logits = out.sequences[:, given["input_ids"].shape[1] :], torch.stack(out.logits, 1)
    decisions = reduction.report.decisions
    merged = {decision.row for decision in decisions if decision.plan.merges}
    assert merged
    for number, row in enumerate(rows):
        acts = acts_of(decisions, number, int(real_columns(given, number)[0]))
        oracle = oracle_of(family, row, attn).extended(tokens[number, :-1].tolist())
        assert_near(logits[number], oracle.run(acts, weighs=True).logits[-STEPS:])
        if number in merged:
            assert (logits[number] - oracle.run(acts).logits[-STEPS:]).abs().max() > 1e-3
