"""CDPruner against its reference."""

from __future__ import annotations

import pytest
import torch

from framefusion.core.errors import OptionError
from framefusion.methods.cdpruner import CDPruner
from tests.reference.cdpruner import cdpruner
from tests.support import driving
from tests.support.driving import CONTENTS, FAMILIES, LAYOUTS, content, kept_by, row


def reference(signals, keep, theta, question=None):
    hidden = signals.hidden()
    wanted = round(keep * len(hidden)) if isinstance(keep, float) else keep
    count = min(len(hidden), max(1, wanted))
    if count == len(hidden):
        return list(range(count))
    question = signals.text()[signals.asks()] if question is None else question
    return cdpruner(hidden, question, count, theta)


@pytest.mark.parametrize("kind", CONTENTS)
@pytest.mark.parametrize("layout", list(LAYOUTS))
@pytest.mark.parametrize(("keep", "theta"), [(0.1, 0.5), (0.5, 0.8), (0.25, None), (7, 0.0)])
def test_selection_is_the_reference(layout, kind, keep, theta):
    geometry = LAYOUTS[layout]
    signals = row(geometry, content(kind, geometry))
    assert kept_by(CDPruner(keep, theta), signals) == reference(signals, keep, theta)


@pytest.mark.parametrize("seed", range(4))
def test_more_picks_than_dimensions(seed):
    geometry = LAYOUTS["odd"]
    signals = row(geometry, content("random", geometry, seed), seed)
    assert kept_by(CDPruner(40), signals) == reference(signals, 40, 0.5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_compared_in_float32(dtype):
    geometry = LAYOUTS["odd"]
    signals = row(geometry, content("random", geometry).to(dtype))
    assert kept_by(CDPruner(0.1), signals) == reference(signals, 0.1, 0.5)


def test_a_question_before_the_clip_counts_when_none_comes_after():
    geometry = LAYOUTS["odd"]
    signals = row(geometry, content("random", geometry), asking=0)
    assert kept_by(CDPruner(0.1), signals) == reference(signals, 0.1, 0.5, signals.text())


def test_without_any_text_diversity_decides():
    geometry = LAYOUTS["odd"]
    signals = row(geometry, content("random", geometry), words=0, asking=0)
    assert kept_by(CDPruner(0.1), signals) == reference(signals, 0.1, 0.5, signals.text())


def test_the_question_matters():
    geometry = LAYOUTS["odd"]
    hidden = content("random", geometry)
    kept = {tuple(kept_by(CDPruner(0.1, 0.9), row(geometry, hidden, seed))) for seed in range(3)}
    assert len(kept) > 1


def test_contract():
    driving.assert_identity(CDPruner(1.0))
    driving.assert_clips_apart(CDPruner(0.2))
    driving.assert_newlines_follow(CDPruner(0.2))
    driving.assert_inputs_unchanged(CDPruner(0.2))


@pytest.mark.parametrize("options", [{"keep": 0}, {"keep": 1.1}, {"theta": 1.0}, {"theta": -0.1}])
def test_bad_options_raise(options):
    with pytest.raises(OptionError):
        CDPruner(**options)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_model_reads_what_is_declared(family):
    driving.assert_declared(CDPruner(0.3), family, lambda patches: max(1, round(0.3 * patches)))
