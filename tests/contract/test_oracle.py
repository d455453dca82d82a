"""The oracle is worth its name: without plans it is the stock model."""

from __future__ import annotations

import pytest
import torch

from tests.support.cases import assert_near, both_attentions, every_family, inputs_of, model_of, oracle_of


@every_family
@both_attentions
@pytest.mark.parametrize("row", ["full", "two", "images"])
def test_without_plans_it_is_the_stock_model(family, attn, row):
    with torch.no_grad():
        stock = model_of(family, attn)(**inputs_of(family, row), output_hidden_states=True)
    answer = oracle_of(family, row, attn).run()
    assert_near(answer.logits, stock.logits[0], 1e-5)
    for ours, theirs in zip(answer.states, stock.hidden_states, strict=True):
        assert_near(ours, theirs[0], 1e-5)


@every_family
def test_it_reads_generated_tokens_like_the_stock_model(family):
    model, inputs = model_of(family), inputs_of(family, "full")
    out = model.generate(**inputs, max_new_tokens=4, do_sample=False, return_dict_in_generate=True, output_logits=True)
    tokens = out.sequences[0, inputs["input_ids"].shape[1] :].tolist()
    answer = oracle_of(family, "full").extended(tokens[:-1]).run()
    assert_near(answer.logits[-4:], torch.cat(out.logits), 1e-5)
