"""FlashVID against its reference."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from framefusion.core.errors import OptionError
from framefusion.core.layout import Geometry, frame_numbers
from framefusion.methods.flashvid import FlashVID
from tests.reference.flashvid import flashvid
from tests.support import looking
from tests.support.looking import CONTENTS, FAMILIES, LAYOUTS, film, plan_of, row, wanted

LONG = Geometry.grid(14, 4, 5)
THINNED = looking.thinned(Geometry.grid(12, 5, 5))


def compare(method, signals):
    plan, hidden = plan_of(method, signals), signals.hidden()
    count = wanted(method.keep, len(hidden))
    attention = signals.vision().saliency(method.tower_layer, False)
    options = (method.alpha, method.segments, method.tau, method.link)
    values = flashvid(hidden, frame_numbers(signals.geometry).tolist(), attention, count, *options, signals.size)
    if count == len(hidden):
        values = dict(enumerate(hidden.double()))
    assert plan.keep.tolist() == list(values) and plan.kept == count
    found, expected = plan.apply(hidden.float()), torch.stack(list(values.values())).float()
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    return plan


METHODS = [
    FlashVID(),
    FlashVID(0.4, segments=2, tau=-1.0, link=0.3),
    FlashVID(0.5, alpha=0.2, tau=0.5, link=0.6),
    FlashVID(0.15, alpha=0.0, segments=1, tau=-1.0, link=-1.0),
    FlashVID(0.3, alpha=1.0),
    FlashVID(7, segments=3, link=0.5, tower_layer=-2),
    FlashVID(0.8, segments=1, tau=-1.0, link=0.0),
]


@pytest.mark.parametrize("geometry", [LONG, THINNED], ids=["long", "thinned"])
@pytest.mark.parametrize("method", METHODS, ids=str)
def test_plan_is_the_reference(geometry, method):
    for seed in range(2):
        compare(method, film(geometry, seed))


@pytest.mark.parametrize("kind", CONTENTS)
@pytest.mark.parametrize("layout", list(LAYOUTS))
@pytest.mark.parametrize("method", [FlashVID(0.4), METHODS[1], METHODS[3], FlashVID(1), FlashVID(1.0)], ids=str)
def test_small_clips_duplicates_and_zeros(layout, kind, method):
    compare(method, row(LAYOUTS[layout], kind))


def test_what_stands_still_becomes_a_tree_whose_value_is_its_mean():
    geometry = Geometry.grid(4, 3, 3)
    still = torch.randn(9, 12, generator=torch.Generator().manual_seed(0)).repeat(4, 1)
    hidden = still + 0.01 * torch.randn(36, 12, generator=torch.Generator().manual_seed(1))
    signals = replace(row(geometry), hidden=lambda: hidden)
    plan = plan_of(FlashVID(9, alpha=0.0, segments=1, tau=-1.0), signals)
    assert plan.keep.tolist() == list(range(9))
    torch.testing.assert_close(plan.apply(hidden), hidden.view(4, 9, 12).mean(0))


def test_no_tree_leaves_its_segment():
    signals = film(Geometry.grid(9, 4, 4))
    plan = plan_of(FlashVID(0.4, segments=3, tau=-1.0, link=-1.0), signals)
    scene = signals.geometry.frame * 3 // 9
    assert torch.equal(scene[plan.keep[plan.target]], scene[plan.source])


def test_earlier_merges_weigh():
    compare(METHODS[1], replace(film(LONG), size=1.0 + torch.arange(len(LONG)) % 3))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_chooses_as_float32(dtype):
    signals = film(LONG)
    half = signals.hidden().to(dtype)
    compare(METHODS[1], replace(signals, hidden=lambda: half))


def test_contract():
    looking.assert_contract(FlashVID(0.4), identity=FlashVID(1.0))


@pytest.mark.parametrize(
    "options", [{"keep": 0}, {"alpha": 1.1}, {"segments": 0}, {"tau": 1.1}, {"link": -1.1}, {"tower_layer": 0}]
)
def test_bad_options_raise(options):
    with pytest.raises(OptionError):
        FlashVID(**options)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_model_reads_what_is_declared(family):
    looking.assert_declared(FlashVID(0.45), family, lambda total: wanted(0.45, total), by_frame=False)
