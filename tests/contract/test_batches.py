"""Every row of a batch is what it is alone: padded on either side, with any number of videos."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch

import framefusion as ff
from framefusion.core.plan import Plan
from framefusion.inference.reduction import reduce_clips
from tests.support.cases import (
    METHODS,
    assert_near,
    both_attentions,
    both_methods,
    every_family,
    inputs_of,
    model_of,
    real_columns,
    reduced,
)
from tests.support.scripted import RandomStage, Scripted
from tests.support.tiny import FAMILIES, build_model

FRAMES = 4
RAGGED = ("full", "text", "two")


def alone(family, attn, method, name):
    return reduced(model_of(family, attn), method, inputs_of(family, name))


@every_family
@both_attentions
@both_methods
@pytest.mark.parametrize("side", ["left", "right"])
def test_rows_with_no_one_and_two_videos(family, attn, method, side):
    inputs = inputs_of(family, *RAGGED, padding_side=side)
    output, report = reduced(model_of(family, attn), method, inputs)
    for number, name in enumerate(RAGGED):
        expected, single = alone(family, attn, method, name)
        columns = real_columns(inputs, number)
        assert_near(output.logits[number, columns], expected.logits[0])
        if name == "text":
            assert single.decisions == [] and single.prompts_without_visual_tokens == 1
            assert report.surviving_columns[number] == columns.tolist()
            continue
        assert report.surviving_columns[number] == columns[single.surviving_columns[0]].tolist()
        mine = [decision for decision in report.decisions if decision.row == number]
        assert [d.point for d in mine] == [d.point for d in single.decisions]
        for ours, theirs in zip(mine, single.decisions, strict=True):
            assert torch.equal(ours.plan.owner, theirs.plan.owner)


@every_family
@both_attentions
def test_generated_tokens_equal_those_of_the_row_alone(family, attn):
    model, method = model_of(family, attn), METHODS["framefusion"]
    options = {"max_new_tokens": 5, "do_sample": False}
    with reduce_clips(model, method):
        together = model.generate(**inputs_of(family, *RAGGED), **options)[:, -5:]
        rows = [model.generate(**inputs_of(family, name), **options)[0, -5:] for name in RAGGED]
    assert [row.tolist() for row in together] == [row.tolist() for row in rows]


@every_family
@both_methods
@pytest.mark.parametrize("side", ["left", "right"])
def test_text_is_never_touched(family, method, side):
    """Text between frames, between videos and around them survives, in every row."""
    inputs = inputs_of(family, *RAGGED, padding_side=side)
    _, report = reduced(model_of(family), method, inputs)
    removed = 0
    for number in range(len(RAGGED)):
        visual = set(report.layout.rows[number][1].columns.tolist())
        text = {column for column in real_columns(inputs, number).tolist() if column not in visual}
        living = report.surviving_columns[number]
        assert text and text <= set(living)
        assert living == sorted(set(living)) and set(living) <= text | visual
        removed += len(text | visual) - len(living)
    assert removed


@every_family
@both_methods
def test_a_batch_of_text_passes_through(family, method):
    model, inputs = model_of(family), inputs_of(family, "text", "text")
    output, report = reduced(model, method, inputs)
    with torch.no_grad():
        assert torch.equal(output.logits, model(**inputs).logits)
    assert report.decisions == [] and report.prompts_without_visual_tokens == 1


@pytest.mark.parametrize("family", [name for name, family in FAMILIES.items() if family.videos and family.mixes])
@both_methods
def test_images_and_videos_in_one_batch(family, method):
    rows = ("mixed", "images", "full")
    inputs = inputs_of(family, *rows)
    output, report = reduced(model_of(family), method, inputs)
    for number, name in enumerate(rows):
        expected, single = alone(family, "sdpa", method, name)
        columns = real_columns(inputs, number)
        assert_near(output.logits[number, columns], expected.logits[0])
        assert report.surviving_columns[number] == columns[single.surviving_columns[0]].tolist()


@pytest.mark.parametrize("attn", ["sdpa", "eager"])
def test_the_batch_really_is_ragged(attn):
    """The rows above keep unequal numbers of tokens at one layer, so the engine has to pad them anew."""
    _, report = reduced(model_of("qwen2_vl", attn), METHODS["framefusion"], inputs_of("qwen2_vl", *RAGGED))
    assert len({len(columns) for columns in report.surviving_columns}) == len(RAGGED)
    assert report.layers[-1].length_in == max(len(columns) for columns in report.surviving_columns)


@dataclass(frozen=True)
class OneClipOnly(Scripted):
    """Removes tokens of rows with one clip, none of others. Series of images count as one long clip."""

    def stages(self):
        return (_OneClipOnly(self),)


class _OneClipOnly(RandomStage):
    def step(self, state, signals):
        if int(signals.geometry.clip.max()) > 0 or int(signals.geometry.frame.max()) >= FRAMES:
            return Plan.identity(len(signals)), state
        return super().step(state, signals)


@every_family
@both_attentions
@pytest.mark.parametrize("side", ["left", "right"])
def test_a_batch_that_keeps_its_length(family, attn, side):
    """The longest row loses nothing: the others move inside a batch whose shape does not change."""
    rows = ("full", "two")
    inputs = inputs_of(family, *rows, padding_side=side)
    output, report = reduced(model_of(family, attn), OneClipOnly(), inputs, output_hidden_states=True)
    assert report.layers[-1].length_out == report.last.prompt_length
    assert report.last.kept_tokens[0] < report.last.visual_tokens[0]
    for number, name in enumerate(rows):
        expected, _ = reduced(model_of(family, attn), OneClipOnly(), inputs_of(family, name), output_hidden_states=True)
        columns = real_columns(inputs, number)
        assert_near(output.logits[number, columns], expected.logits[0])
        for state, other in zip(output.hidden_states, expected.hidden_states, strict=True):
            assert_near(state[number, columns], other[0])


def words_nearly_as_long_as(family, name):
    lengths = [inputs_of(family, row)["input_ids"].shape[1] for row in (name, "words1")]
    return f"words{lengths[0] - lengths[1] - 2}"


@every_family
@both_attentions
@both_methods
@pytest.mark.parametrize("side", ["left", "right"])
def test_the_longest_row_becomes_the_shortest(family, attn, method, side):
    """A row without padding gets some, because a row that loses nothing outgrows it."""
    rows = ("two", words_nearly_as_long_as(family, "two"))
    inputs = inputs_of(family, *rows, padding_side=side)
    output, report = reduced(model_of(family, attn), method, inputs)
    assert len(report.surviving_columns[0]) < len(report.surviving_columns[1]) == report.layers[-1].length_in
    for number, name in enumerate(rows):
        expected, _ = alone(family, attn, method, name)
        assert_near(output.logits[number, real_columns(inputs, number)], expected.logits[0])


@pytest.mark.parametrize("when", ["before", "after"])
def test_states_of_a_batch_that_keeps_its_length_under_autograd(when):
    """The lengths of what a layer returned and of what is left of it are equal, but not their slots."""
    model, rows = build_model("qwen2_vl"), ("full", "two")
    inputs = inputs_of("qwen2_vl", *rows)
    if when == "before":
        model(**inputs, output_hidden_states=True)
    with ff.reduce(model, OneClipOnly()):
        found = model(**inputs, output_hidden_states=True).hidden_states
    expected, _ = reduced(model, OneClipOnly(), inputs, output_hidden_states=True)
    for state, other in zip(found, expected.hidden_states, strict=True):
        for number in range(len(rows)):
            columns = real_columns(inputs, number)
            assert_near(state[number, columns].detach(), other[number, columns])
