"""HoliTom's outer stage against its reference."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from framefusion.core.errors import OptionError
from framefusion.core.layout import Geometry, frame_numbers
from framefusion.methods.holitom_outer import HoliTomOuter, stillest_windows
from tests.reference.holitom_outer import holitom_outer
from tests.support import looking
from tests.support.looking import CONTENTS, FAMILIES, LAYOUTS, film, plan_of, row

SCENES = {
    "long": Geometry.grid(9, 4, 5),
    "thinned": looking.thinned(Geometry.grid(8, 5, 5)),
}


def compare(method, signals):
    plan, hidden = plan_of(method, signals), signals.hidden()
    total, keep = len(hidden), method.keep
    share = keep / total if isinstance(keep, int) else keep
    geometry, attention = signals.geometry, signals.vision().saliency(method.tower_layer, False)
    frame = frame_numbers(geometry).tolist()
    if share >= 1.0:
        values = dict(enumerate(hidden.double()))
    else:
        values = holitom_outer(hidden, frame, geometry.patch.tolist(), attention, share, method.tau, method.beta)
    assert plan.keep.tolist() == list(values)
    found, expected = plan.apply(hidden.float()), torch.stack(list(values.values())).float()
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
    return plan


@pytest.mark.parametrize("layout", list(SCENES))
@pytest.mark.parametrize(
    "method",
    [
        HoliTomOuter(0.2),
        HoliTomOuter(0.5, tau=0.65, beta=0.3),
        HoliTomOuter(0.1, tau=0.95),
        HoliTomOuter(30, tau=0.9, beta=1.0, tower_layer=-2),
        HoliTomOuter(0.7, tau=0.5, beta=0.0),
    ],
    ids=str,
)
def test_plan_is_the_reference(layout, method):
    for seed in range(2):
        assert compare(method, film(SCENES[layout], seed)).merges


@pytest.mark.parametrize("kind", CONTENTS)
@pytest.mark.parametrize("layout", list(LAYOUTS))
@pytest.mark.parametrize("method", [HoliTomOuter(0.3), HoliTomOuter(0.5, -1.0), HoliTomOuter(0.5, 1.0)], ids=str)
def test_small_clips_duplicates_and_zeros(layout, kind, method):
    compare(method, row(LAYOUTS[layout], kind))


def test_a_still_clip_keeps_its_budget():
    frames, places = 6, 20
    still = torch.randn(places, looking.WIDTH, generator=torch.Generator().manual_seed(0)).repeat(frames, 1)
    signals = replace(row(Geometry.grid(frames, 4, 5)), hidden=lambda: still)
    assert plan_of(HoliTomOuter(0.1), signals).kept == round(0.1 * frames * places)


def test_windows_follow_the_scenes():
    still = torch.ones(8, 5, dtype=torch.bool)
    still[3], still[6, :1] = False, False
    assert stillest_windows(still, 1024) == ([(0, 4), (4, 9)], 5 * 3 + 4 * 4)
    assert stillest_windows(still, 3)[1] == 5 * 2 + 5 * 2 + 5
    assert stillest_windows(still[:0], 1024) == ([(0, 1)], 0)


def test_means_count_originals():
    geometry = Geometry.grid(2, 1, 1)
    values = torch.tensor([[1.0, 0.0], [1.0, 0.3]])
    signals = replace(row(geometry, size=torch.tensor([3.0, 1.0])), hidden=lambda: values)
    merged = plan_of(HoliTomOuter(0.5), signals).apply(values)
    torch.testing.assert_close(merged, torch.tensor([[1.0, 0.075]]))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_chooses_as_float32(dtype):
    signals = film(SCENES["long"])
    half = signals.hidden().to(dtype)
    found = plan_of(HoliTomOuter(0.2), replace(signals, hidden=lambda: half))
    wide = plan_of(HoliTomOuter(0.2), replace(signals, hidden=lambda: half.float()))
    assert torch.equal(found.keep, wide.keep) and found.apply(half).dtype == dtype


def test_contract():
    looking.assert_contract(HoliTomOuter(0.4), identity=HoliTomOuter(1.0))


@pytest.mark.parametrize("options", [{"keep": 0}, {"keep": 1.1}, {"tau": 1.1}, {"beta": -0.1}, {"tower_layer": -3}])
def test_bad_options_raise(options):
    with pytest.raises(OptionError):
        HoliTomOuter(**options)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_layer_of_a_model_reads_what_is_left(family):
    report = looking.in_a_model(HoliTomOuter(0.4, tau=0.5), family).report
    assert 0 < report.kept_tokens < report.visual_tokens
    assert [layer.visual_in for layer in report.layers] == [report.kept_tokens] * looking.TINY_LAYERS
