"""A reduced prefill is what the bare layers give on the gathered tensors of the recorded plans."""

from __future__ import annotations

import pytest
import torch
from transformers import DynamicCache

import framefusion as ff
from framefusion.engine.model.cache_names import cache_name, cache_of
from tests.support.cases import (
    ATTENTIONS,
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

PRUNING = ff.FrameFusion(cost=0.5, similarity_lower_bound=1.0)
BATCH = ("full", "short", "text")
both_caches = pytest.mark.parametrize("cached", [True, False], ids=["cache", "no-cache"])


def check_row(family, attn, name, inputs, number, output, report):
    """One row of a reduced batch against its oracle; returns the oracle's answer."""
    columns = real_columns(inputs, number)
    first = int(columns[0])
    answer = oracle_of(family, name, attn).run(acts_of(report.decisions, number, first))
    assert_near(output.logits[number, columns], answer.expanded(answer.logits))
    assert report.surviving_columns[number] == [first + column for column in answer.columns]
    return answer


@every_family
@both_attentions
@both_methods
@both_caches
def test_row_alone(family, attn, method, cached):
    inputs = inputs_of(family, "full")
    cache = DynamicCache(config=model_of(family, attn).get_decoder().config) if cached else None
    output, report = reduced(model_of(family, attn), method, inputs, **{cache_name(): cache}, use_cache=cached)
    assert any(d.plan.kept < d.plan.count for d in report.decisions)
    check_row(family, attn, "full", inputs, 0, output, report)
    assert (cache_of(output) is None) != cached


@every_family
@both_attentions
@both_methods
@both_caches
@pytest.mark.parametrize("side", ["left", "right"])
def test_padded_batch(family, attn, method, cached, side):
    inputs = inputs_of(family, *BATCH, padding_side=side)
    output, report = reduced(model_of(family, attn), method, inputs, use_cache=cached)
    assert not bool(inputs["attention_mask"].all())
    for number, name in enumerate(BATCH):
        check_row(family, attn, name, inputs, number, output, report)


@every_family
@both_methods
def test_several_videos(family, method):
    inputs = inputs_of(family, "two")
    output, report = reduced(model_of(family), method, inputs)
    check_row(family, "sdpa", "two", inputs, 0, output, report)


@every_family
@both_methods
@pytest.mark.parametrize("attn", ATTENTIONS)
def test_removed_positions_show_their_representative(family, attn, method):
    """Merged tokens return the state of their group, pruned ones that of the nearest earlier survivor."""
    inputs = inputs_of(family, "full")
    output, report = reduced(model_of(family, attn), method, inputs)
    answer = oracle_of(family, "full", attn).run(acts_of(report.decisions))
    removed = sorted(set(range(len(answer.stands))) - set(answer.columns))
    assert removed and set(removed) <= set(report.layout.rows[0][1].columns.tolist())
    for column in removed:
        assert torch.equal(output.logits[0, column], output.logits[0, answer.stands[column]])


@every_family
def test_framefusion_prunes_to_the_nearest_earlier_survivor(family):
    inputs = inputs_of(family, "full")
    output, report = reduced(model_of(family), PRUNING, inputs)
    # The newlines of LLaVA-Video are equal in all frames and merge first.
    *repeats, decision = [d for d in report.decisions if d.plan.kept < d.plan.count]
    assert not repeats or family == "llava_qwen"
    gone = (decision.plan.owner == -1).nonzero().flatten()
    living = torch.tensor(report.surviving_columns[0])
    assert len(gone) and not decision.plan.merges
    for column in decision.columns[gone].tolist():
        earlier = living[living < column].max()
        assert torch.equal(output.logits[0, column], output.logits[0, earlier])


@every_family
@both_methods
@pytest.mark.parametrize("rows", [("full",), ("full", "short")], ids=["alone", "padded"])
def test_the_cache_shrinks_with_the_plans(family, method, rows):
    """Each attention layer stores exactly the text and the visual tokens that were alive when it ran."""
    model, inputs = model_of(family), inputs_of(family, *rows)
    output, report = reduced(model, method, inputs)
    dense = cache_of(model(**inputs))
    answers = [
        oracle_of(family, name).run(acts_of(report.decisions, number, int(real_columns(inputs, number)[0])))
        for number, name in enumerate(rows)
    ]
    fell = False
    for number, (layer, whole) in enumerate(zip(cache_of(output).layers, dense.layers, strict=True)):
        if getattr(whole, "keys", None) is None:
            continue
        alive = max(answer.lengths[number] for answer in answers)
        for row, answer in enumerate(answers):
            assert_text_is_whole(inputs, report, row, answer.keys[number])
        window = getattr(layer, "sliding_window", None) if getattr(layer, "is_sliding", False) else None
        assert layer.keys.shape[-2] == layer.values.shape[-2] == (alive if window is None else min(alive, window - 1))
        assert report.layers[number].length_in == alive
        fell |= layer.keys.shape[-2] < whole.keys.shape[-2]
    assert fell
    assert [layer.length_out for layer in report.layers] == [
        max(answer.mlp_lengths[number] for answer in answers) for number in range(len(report.layers))
    ]


def assert_text_is_whole(inputs, report, row, columns):
    """columns: what is alive of the row, counted without padding."""
    real = real_columns(inputs, row).tolist()
    visual = set(report.layout.rows[row][1].columns.tolist())
    text = [column for column in real if column not in visual]
    assert [real[column] for column in columns if real[column] not in visual] == text
