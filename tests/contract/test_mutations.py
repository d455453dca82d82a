"""The contract tests can fail: engines that are wrong on purpose do not equal the oracle."""

from __future__ import annotations

import pytest
import torch

import framefusion as ff
from framefusion.core.ops.weighted import Sums
from framefusion.engine import engine as engines
from framefusion.engine.decoder import layer_inputs
from framefusion.engine.sequence.reduce import ReductionStep
from tests.contract.test_batches import words_nearly_as_long_as
from tests.support.cases import METHODS, inputs_of, model_of, oracle_of, real_columns, reduced
from tests.support.oracle import acts_of
from tests.support.scripted import Scripted

ROWS = ("full", "short")


def heavier_merge(patch):
    of = Sums.of
    patch.setattr(Sums, "of", lambda *entries: of(*entries[:-1], entries[-1] * 1.01))


def shifted_positions(patch):
    cut = layer_inputs.cut_positions
    patch.setattr(
        layer_inputs, "cut_positions", lambda value, columns, length: cut(value, (columns - 1).clamp(min=0), length)
    )


def short_positions(patch):
    """Positions of the shortened sequence counted anew, the commonest mistake of all."""
    cut = layer_inputs.cut_positions
    patch.setattr(
        layer_inputs,
        "cut_positions",
        lambda value, columns, length: cut(value, torch.arange(columns.shape[1]).expand_as(columns), length),
    )


def mask_off_by_one(patch):
    cut = layer_inputs.cut_mask

    def wrong(mask, queries, *rest):
        late = type(queries)((queries.columns - 1).clamp(min=0), queries.valid)
        return cut(mask, late, *rest)

    patch.setattr(layer_inputs, "cut_mask", wrong)


def padding_forgotten(patch):
    cut = layer_inputs.cut_mask
    patch.setattr(
        layer_inputs,
        "cut_mask",
        lambda mask, queries, keys, *rest: cut(mask, queries, type(keys)(keys.columns, None), *rest),
    )


def planes_not_reduced(patch):
    patch.setattr(
        ReductionStep,
        "apply_to_visual",
        lambda step, rows: [values[cut.plan.keep] for cut, values in zip(step.cuts, rows, strict=True)],
    )


def never_expanded_states(patch):
    patch.setattr(engines, "expand_outputs", lambda output, forward, parts: output)


def largest_error(family, method, rows=ROWS):
    inputs = inputs_of(family, *rows)
    output, report = reduced(model_of(family), method, inputs)
    errors = []
    for number, name in enumerate(rows):
        columns = real_columns(inputs, number)
        answer = oracle_of(family, name).run(acts_of(report.decisions, number, int(columns[0])))
        errors.append((output.logits[number, columns] - answer.expanded(answer.logits)).abs().max())
    return float(max(errors))


@pytest.mark.parametrize(
    ("family", "mutation"),
    [
        ("qwen2_vl", heavier_merge),
        ("qwen2_vl", shifted_positions),
        ("llava_onevision", short_positions),
        ("qwen2_vl", mask_off_by_one),
        ("gemma3", mask_off_by_one),
        ("qwen3_vl", planes_not_reduced),
    ],
)
def test_a_wrong_engine_is_found(family, mutation, monkeypatch):
    assert largest_error(family, Scripted()) < 1e-4
    mutation(monkeypatch)
    assert largest_error(family, Scripted()) > 1e-2


def test_forgotten_padding_is_found(monkeypatch):
    rows = ("two", words_nearly_as_long_as("llava_onevision", "two"))
    assert largest_error("llava_onevision", Scripted(), rows) < 1e-4
    padding_forgotten(monkeypatch)
    assert largest_error("llava_onevision", Scripted(), rows) > 1e-2


def test_an_unexpanded_state_is_found(monkeypatch):
    inputs, method = inputs_of("qwen2_vl", "full"), METHODS["framefusion"]
    never_expanded_states(monkeypatch)
    output, _ = reduced(model_of("qwen2_vl"), method, inputs, output_hidden_states=True)
    assert output.hidden_states[2].shape[1] < inputs["input_ids"].shape[1]


def test_an_identity_that_is_none_is_found(monkeypatch):
    from framefusion.methods.framefusion import Cascade

    monkeypatch.setattr(Cascade, "step", lambda stage, state, signals: (None, state))
    _, report = reduced(model_of("qwen2_vl"), ff.FrameFusion(cost=1.0), inputs_of("qwen2_vl", "full"))
    assert report.decisions == []
