"""Assisted decoding: a draft model only proposes, so the reduced model answers as without it."""

from __future__ import annotations

import pytest

import framefusion as ff
from framefusion.core.errors import MissingSignalError
from framefusion.inference.reduction import reduce_clips
from tests.behaviour.support import answer, families, inputs, method, model
from tests.support.tiny import build_model

TOKENS = 16
with_drafts = families("qwen2_5_vl", "llava_onevision")


@with_drafts
@pytest.mark.parametrize("way, reduced_too", [("framefusion", False), ("framefusion", True), ("visionzip", False)])
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
        # Some releases let the prompt's call read the first guess as well.
        length = inputs(name, "long")["input_ids"].shape[1]
        assert [[c for c in row if c < length] for row in reduction.report.surviving_columns] == columns
        assert 0 < reduction.report.decode_steps - one_by_one <= one_by_one


@families("qwen2_5_vl")
def test_a_draft_has_no_tower_signals(name):
    """Transformers hands it the model's encoded pictures, or none; its own tower does not run."""
    net, draft = model(name), build_model(name, layers=2)
    with reduce_clips(net, method(name)), ff.reduce(draft, ff.VisionZip(keep=0.4)), pytest.raises(MissingSignalError):
        answer(net, inputs(name, "long"), 2, assistant_model=draft)
