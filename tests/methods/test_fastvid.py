"""FastVID against its reference."""

from __future__ import annotations

from dataclasses import replace
from math import floor

import pytest
import torch

from framefusion.core.errors import OptionError
from framefusion.core.layout import Geometry, frame_numbers
from framefusion.methods.fastvid import FastVID
from tests.reference.fastvid import fastvid
from tests.support import looking
from tests.support.looking import CONTENTS, FAMILIES, LAYOUTS, film, plan_of, row

LONG = Geometry.grid(14, 4, 5)
THINNED = looking.thinned(Geometry.grid(12, 5, 5))


def wanted(keep, total):
    return min(total, max(1, floor(keep * total) if isinstance(keep, float) else keep))


def compare(method, signals):
    plan, hidden = plan_of(method, signals), signals.hidden()
    frame = frame_numbers(signals.geometry)
    budget = [wanted(method.keep, count) for count in torch.bincount(frame).tolist()]
    options = (method.segments, method.tau, method.context, method.every, method.beta)
    variant = method.variant
    attention = signals.vision().saliency(method.tower_layer, False)
    values = fastvid(hidden, frame.tolist(), attention, budget, *options, signals.size, variant)
    if sum(budget) == len(hidden):
        values = dict(enumerate(hidden.double()))
    assert plan.keep.tolist() == list(values)
    assert plan.kept == sum(budget) if variant == "exact" else plan.kept <= sum(budget)
    found, expected = plan.apply(hidden.float()), torch.stack(list(values.values())).float()
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    return plan


METHODS = [
    FastVID(0.3, segments=2, tau=0.5),
    FastVID(0.4, segments=3, tau=-1.0, every=2),
    FastVID(0.5, tau=0.9, context=0.8),
    FastVID(0.8, segments=1, tau=-1.0, context=1.0, every=3),
    FastVID(6, segments=4, tau=0.0, context=0.5, beta=0.0),
    FastVID(0.3, context=0.0),
    FastVID(0.4, segments=3, tau=-1.0, every=2, variant="llava_onevision"),
    FastVID(0.4, segments=3, tau=-1.0, every=2, variant="llava_video"),
    FastVID(0.8, segments=1, tau=-1.0, context=0.9, every=3, variant="llava_onevision"),
    FastVID(0.5, segments=2, tau=0.5, context=0.7, every=3, beta=0.1, variant="llava_video"),
]


@pytest.mark.parametrize("geometry", [LONG, THINNED], ids=["long", "thinned"])
@pytest.mark.parametrize("method", METHODS, ids=str)
def test_plan_is_the_reference(geometry, method):
    for seed in range(3):
        plan = compare(method, film(geometry, seed))
        assert plan.merges == (method.context > 0)


@pytest.mark.parametrize("kind", CONTENTS)
@pytest.mark.parametrize("layout", list(LAYOUTS))
@pytest.mark.parametrize("method", [FastVID(0.4), METHODS[1], METHODS[3], METHODS[6], METHODS[7]], ids=str)
def test_small_clips_duplicates_and_zeros(layout, kind, method):
    compare(method, row(LAYOUTS[layout], kind))


def test_a_cut_scene_does_not_merge_with_the_one_before():
    signals = film(Geometry.grid(9, 4, 4))
    plan = plan_of(FastVID(0.4, segments=3, tau=-1.0), signals)
    scene = signals.geometry.frame * 3 // 9
    assert torch.equal(scene[plan.keep[plan.target]], scene[plan.source])
    assert int((plan.owner >= 0).sum()) == len(signals)


def test_means_count_originals():
    signals = replace(film(LONG), size=1.0 + torch.arange(len(LONG)) % 3)
    compare(FastVID(0.4, segments=2, tau=-1.0, beta=0.1), signals)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_chooses_as_float32(dtype):
    signals = film(LONG)
    half = signals.hidden().to(dtype)
    compare(METHODS[0], replace(signals, hidden=lambda: half))


def test_contract():
    looking.assert_contract(FastVID(0.4), identity=FastVID(1.0))


@pytest.mark.parametrize(
    "options",
    [
        {"keep": 0},
        {"keep": 1.1},
        {"segments": 0},
        {"every": 0},
        {"tau": 1.1},
        {"context": -0.1},
        {"context": float("nan")},
        {"beta": 1.1},
        {"tower_layer": 0},
        {"variant": "qwen"},
    ],
)
def test_bad_options_raise(options):
    with pytest.raises(OptionError):
        FastVID(**options)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_model_reads_what_is_declared(family):
    method = FastVID(0.45, segments=1, tau=-1.0)
    looking.assert_declared(method, family, lambda total: wanted(0.45, total), by_frame=True)
