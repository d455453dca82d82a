"""HoloV against its reference."""

from __future__ import annotations

import pytest
import torch

from framefusion.core.errors import OptionError
from framefusion.core.layout import frame_numbers
from framefusion.core.ops.budget import apportion
from framefusion.methods.holov import HoloV
from tests.reference.holov import holov, seats
from tests.support import looking
from tests.support.looking import CONTENTS, FAMILIES, LAYOUTS, kept_by, row, wanted


def reference(method, signals):
    count = wanted(method.keep, len(signals))
    pictures = frame_numbers(signals.geometry).tolist()
    saliency = signals.vision().saliency(method.tower_layer, False)
    return holov(signals.hidden(), saliency, pictures, count, method.crops, method.alpha, method.scale)


@pytest.mark.parametrize("kind", CONTENTS)
@pytest.mark.parametrize("layout", list(LAYOUTS))
@pytest.mark.parametrize(
    "method",
    [
        HoloV(0.2),
        HoloV(0.5, 4),
        HoloV(0.85, 3, 5.0, -1),
        HoloV(7, 1),
        HoloV(1, 5),
        HoloV(0.3, 100),
        HoloV(0.3, 5, 0.0),
        HoloV(0.2, scale="clip"),
        HoloV(0.5, 4, 2.0, scale="clip"),
        HoloV(0.85, 3, 5.0, -1, "clip"),
    ],
    ids=str,
)
def test_selection_is_the_reference(layout, kind, method):
    for seed in range(2):
        signals = row(LAYOUTS[layout], kind, seed)
        kept = kept_by(method, signals)
        assert kept == reference(method, signals)
        assert len(kept) == wanted(method.keep, len(signals))


@pytest.mark.parametrize("seed", range(20))
def test_seats_are_those_of_the_reference_and_fit(seed):
    draw = torch.Generator().manual_seed(seed)
    weight = torch.rand(9, generator=draw) ** 4
    weight[seed % 9] = 0.0
    room = torch.randint(1, 6, (9,), generator=draw)
    for count in range(1, int(room.sum()) + 1):
        given = apportion(weight, room, count)
        assert given.tolist() == seats((weight.double() / weight.double().sum()).tolist(), room.tolist(), count)
        assert int(given.sum()) == count and bool((given <= room).all())


def test_equal_weights_share_alike():
    assert apportion(torch.ones(3), torch.tensor([4, 4, 4]), 9).tolist() == [3, 3, 3]
    assert apportion(torch.zeros(3), torch.tensor([4, 4, 4]), 7).tolist() == [3, 2, 2]
    assert apportion(torch.tensor([1.0, 0.0]), torch.tensor([2, 3]), 4).tolist() == [2, 2]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_chooses_as_float32(dtype):
    signals = row(LAYOUTS["clip"], dtype=dtype)
    assert kept_by(HoloV(0.3, 4), signals) == reference(HoloV(0.3, 4), signals)


def test_variety_counts_over_the_clip_only():
    """Scaled within a crop, variety has the mean of the crop's attention, and so cancels out of the quotas."""
    signals = row(LAYOUTS["odd picture"])
    for seed in range(5):
        signals = row(LAYOUTS["odd picture"], seed=seed)
        assert kept_by(HoloV(0.5, 5, 50.0), signals) == kept_by(HoloV(0.5, 5, 0.0), signals)
    assert kept_by(HoloV(0.5, 5, 50.0, scale="clip"), signals) != kept_by(HoloV(0.5, 5, 0.0), signals)


def test_contract():
    looking.assert_contract(HoloV(0.3), identity=HoloV(1.0))


@pytest.mark.parametrize(
    "options",
    [
        {"keep": 0},
        {"keep": 1.1},
        {"crops": 0},
        {"crops": 2.5},
        {"alpha": -1.0},
        {"tower_layer": -3},
        {"scale": "picture"},
    ],
)
def test_bad_options_raise(options):
    with pytest.raises(OptionError):
        HoloV(**options)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_model_reads_what_is_declared(family):
    looking.assert_declared(HoloV(0.4), family, lambda total: wanted(0.4, total), by_frame=False)
