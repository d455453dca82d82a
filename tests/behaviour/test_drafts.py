"""Assisted decoding: a draft model only proposes, so the reduced model answers as without it."""

from __future__ import annotations

import pytest

import framefusion as ff
from tests.behaviour.support import answer, families, inputs, method, model
from tests.support.tiny import build_model

TOKENS = 16
with_drafts = families("qwen2_5_vl", "llava_onevision")


@with_drafts
@pytest.mark.parametrize("way", ["framefusion", "visionzip"])
@pytest.mark.parametrize("reduced_too", [False, True], ids=["dense-draft", "reduced-draft"])
def test_a_draft_changes_no_token(name, way, reduced_too):
    """The draft reads the same prompt; whether it is reduced as well only moves how often it guesses right."""
    net, draft = model(name), build_model(name, layers=2)
    chosen = method(name) if way == "framefusion" else ff.VisionZip(keep=0.4)
    with ff.reduce(net, chosen) as reduction:
        expected = answer(net, inputs(name, "long"), TOKENS).tolist()
        one_by_one, columns = reduction.report.decode_steps, reduction.report.surviving_columns
        if reduced_too:
            with ff.reduce(draft, chosen) as drafting:
                found = answer(net, inputs(name, "long"), TOKENS, assistant_model=draft).tolist()
            assert drafting.report.prompts > 0
        else:
            found = answer(net, inputs(name, "long"), TOKENS, assistant_model=draft).tolist()
        assert found == expected
        assert reduction.report.surviving_columns == columns
        assert 0 < reduction.report.decode_steps - one_by_one <= one_by_one


@with_drafts
def test_a_model_that_is_its_own_draft_is_believed(name):
    """Every guess is right, so fewer steps than tokens are needed."""
    net, twin = model(name), build_model(name)
    chosen = method(name)
    with ff.reduce(net, chosen) as reduction, ff.reduce(twin, chosen):
        expected = answer(net, inputs(name, "long"), TOKENS).tolist()
        one_by_one = reduction.report.decode_steps
        assert answer(net, inputs(name, "long"), TOKENS, assistant_model=twin).tolist() == expected
        assert reduction.report.decode_steps - one_by_one < one_by_one
