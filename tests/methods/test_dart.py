"""DART against its reference."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from framefusion.core.errors import OptionError
from framefusion.core.layout import Geometry
from framefusion.core.method import Setting, before
from framefusion.methods.dart import DART
from tests.reference.dart import dart
from tests.support import driving
from tests.support.driving import CONTENTS, FAMILIES, LAYOUTS, content, kept_by, row

POINT = before(2)


def reference(signals, keep, visual=4, words=4):
    hidden = signals.hidden()
    wanted = int(keep * len(hidden)) if isinstance(keep, float) else keep
    count = min(len(hidden), max(1, wanted))
    if count == len(hidden):
        return list(range(count))
    asks = signals.asks() if signals.asks().any() else ~signals.asks()
    return dart(hidden, signals.keys(), signals.text()[asks], signals.text_keys()[asks], count, visual, words)


@pytest.mark.parametrize("layout", list(LAYOUTS))
@pytest.mark.parametrize(
    ("keep", "visual", "words"), [(0.222, 4, 4), (0.5, 1, 0), (0.6, 3, 2), (2, 4, 4), (5, 4, 4), (30, 8, 1)]
)
def test_selection_is_the_reference(layout, keep, visual, words):
    geometry = LAYOUTS[layout]
    for seed in range(3):
        signals = row(geometry, content("random", geometry, seed), seed, POINT)
        method = DART(keep, visual_pivots=visual, text_pivots=words)
        assert kept_by(method, signals) == reference(signals, keep, visual, words)


@pytest.mark.parametrize("kind", CONTENTS)
@pytest.mark.parametrize("layout", list(LAYOUTS))
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_every_content_keeps_what_is_declared(layout, kind, dtype):
    geometry = LAYOUTS[layout]
    signals = row(geometry, content(kind, geometry).to(dtype), point=POINT)
    assert len(kept_by(DART(0.4), signals)) == max(1, int(0.4 * len(geometry)))


def test_equal_tokens_are_kept_in_prompt_order():
    geometry = LAYOUTS["odd"]
    for kind in ("equal", "zeros"):
        signals = row(geometry, content(kind, geometry), point=POINT)
        signals = replace(signals, keys=lambda: torch.ones(len(geometry), 2, 3))
        assert kept_by(DART(0.4), signals) == list(range(int(0.4 * len(geometry))))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_compared_in_float32(dtype):
    geometry = LAYOUTS["odd"]
    signals = row(geometry, content("random", geometry).to(dtype), point=POINT)
    assert kept_by(DART(0.3), signals) == reference(signals, 0.3)


def test_without_a_question_behind_the_clip():
    geometry = LAYOUTS["odd"]
    signals = row(geometry, content("random", geometry), point=POINT, asking=0)
    assert kept_by(DART(0.3), signals) == reference(signals, 0.3)
    silent = row(geometry, content("random", geometry), point=POINT, words=0, asking=0)
    assert len(kept_by(DART(0.3), silent)) == int(0.3 * len(geometry))


def test_it_waits_for_attention_and_acts_once():
    geometry = Geometry.grid(2, 3, 3)
    (stage,) = DART(0.5).stages()
    state = stage.start(Setting(6, geometry))
    assert list(stage.points(6)) == [before(layer) for layer in (2, 3, 4, 5)]
    signals = row(geometry, content("random", geometry), point=POINT)
    plan, state = stage.step(state, replace(signals, has_attention=False))
    assert plan is None
    plan, state = stage.step(state, signals)
    assert plan is not None and plan.kept == 9
    assert stage.step(state, signals)[0] is None


def test_contract():
    driving.assert_identity(DART(1.0), POINT)
    driving.assert_clips_apart(DART(0.4), POINT)
    driving.assert_newlines_follow(DART(0.2), POINT)
    driving.assert_inputs_unchanged(DART(0.4), POINT)


@pytest.mark.parametrize(
    "options", [{"keep": 0}, {"keep": 1.1}, {"layer": 0}, {"layer": -1}, {"visual_pivots": 0}, {"text_pivots": -1}]
)
def test_bad_options_raise(options):
    with pytest.raises(OptionError):
        DART(**options)


def test_a_layer_the_model_lacks_raises():
    (stage,) = DART(layer=4).stages()
    with pytest.raises(OptionError, match="no layer 4"):
        stage.start(Setting(4, Geometry.grid(1, 2, 2)))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_model_reads_what_is_declared(family):
    driving.assert_declared(DART(0.4), family, lambda patches: max(1, int(0.4 * patches)), layer=2)
