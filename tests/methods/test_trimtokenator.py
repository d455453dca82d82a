"""TrimTokenator against its reference."""

from __future__ import annotations

import pytest
import torch

from framefusion.core.errors import OptionError
from framefusion.methods.trimtokenator import TrimTokenator
from tests.reference.trimtokenator import trimtokenator
from tests.support import driving
from tests.support.driving import CONTENTS, FAMILIES, LAYOUTS, content, kept_by, row


def reference(signals, keep, near):
    hidden = signals.hidden()
    wanted = round(keep * len(hidden)) if isinstance(keep, float) else keep
    count = min(len(hidden), max(1, wanted))
    if count == len(hidden):
        return list(range(count))
    asks = signals.asks()
    question = signals.text()[asks] if asks.any() else signals.text()
    return trimtokenator(hidden, question, count, near)


@pytest.mark.parametrize("kind", CONTENTS)
@pytest.mark.parametrize("layout", list(LAYOUTS))
@pytest.mark.parametrize(("keep", "near"), [(0.111, 0.8), (0.5, 0.5), (7, 0.3), (0.25, 1.0)])
def test_selection_is_the_reference(layout, kind, keep, near):
    geometry = LAYOUTS[layout]
    for seed in range(2):
        signals = row(geometry, content(kind, geometry, seed), seed)
        assert kept_by(TrimTokenator(keep, near), signals) == reference(signals, keep, near)


@pytest.mark.parametrize(("words", "asking"), [(5, 0), (0, 0)])
def test_without_a_question_behind_the_clip(words, asking):
    geometry = LAYOUTS["odd"]
    signals = row(geometry, content("random", geometry), words=words, asking=asking)
    assert kept_by(TrimTokenator(0.2), signals) == reference(signals, 0.2, 0.8)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_compared_in_float32(dtype):
    geometry = LAYOUTS["odd"]
    signals = row(geometry, content("random", geometry).to(dtype))
    assert kept_by(TrimTokenator(0.2), signals) == reference(signals, 0.2, 0.8)


def test_contract():
    driving.assert_identity(TrimTokenator(1.0))
    driving.assert_clips_apart(TrimTokenator(0.2))
    driving.assert_newlines_follow(TrimTokenator(0.2))
    driving.assert_inputs_unchanged(TrimTokenator(0.2))


@pytest.mark.parametrize("options", [{"keep": 0}, {"keep": 1.1}, {"near": 0.0}, {"near": 1.5}])
def test_bad_options_raise(options):
    with pytest.raises(OptionError):
        TrimTokenator(**options)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_model_reads_what_is_declared(family):
    driving.assert_declared(TrimTokenator(0.3), family, lambda patches: max(1, round(0.3 * patches)))
