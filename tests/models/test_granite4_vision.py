"""Granite 4 vision: features of a picture are added in front of several layers, to the tokens that are left."""

from __future__ import annotations

import pytest
import torch

import framefusion as ff
from framefusion.core.method import before
from framefusion.testing.conformance.contract import Halve
from framefusion.testing.conformance.oracle import NotRun, Oracle
from framefusion.testing.conformance.toy import names
from framefusion.testing.conformance.visuals import Visual, clip

KNOWN = dict(names())
NAME = "granite4_vision"


@pytest.mark.slow
@torch.no_grad()
def test_features_follow_the_tokens_that_are_left() -> None:
    """Dropped tokens are those that nobody sees in the stock model."""
    if NAME not in KNOWN:
        pytest.skip(f"this transformers has no {NAME}")
    try:
        seer = Oracle(NAME, KNOWN[NAME])
        inputs = seer.inputs([Visual("image", clip(1, 168, 168))])
    except NotRun as error:
        pytest.skip(str(error))
    inputs["position_ids"] = torch.arange(inputs["input_ids"].shape[1])[None]
    with ff.reduce(seer.model, ff.Uniform(keep=0.4)) as reduction:
        reduced = seer.model(**inputs).logits[:, -1]
    (decision,) = reduction.report.decisions
    assert decision.point == before(0)
    gone = torch.ones(decision.plan.count, dtype=torch.bool).index_fill(0, decision.plan.keep, False)
    seen = inputs["attention_mask"].clone()
    seen[0, decision.columns[gone]] = 0
    dense = seer.model(**{**inputs, "attention_mask": seen}).logits[:, -1]
    torch.testing.assert_close(reduced, dense, rtol=1e-4, atol=1e-4)
    with ff.reduce(seer.model, Halve((before(2),))) as reduction:
        assert seer.model(**inputs).logits.isfinite().all()
    assert len(reduction.report.decisions) == 1
