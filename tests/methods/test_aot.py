"""AOT against its reference."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from framefusion.core.errors import OptionError
from framefusion.core.layout import Geometry, frame_numbers
from framefusion.core.ops.transport import transport
from framefusion.methods.aot import AOT
from tests.reference.aot import aot
from tests.support import looking
from tests.support.looking import CONTENTS, FAMILIES, LAYOUTS, film, plan_of, row, wanted

LONG = Geometry.grid(10, 4, 6)
THINNED = looking.thinned(Geometry.grid(9, 5, 5))


def compare(method, signals):
    plan, hidden, geometry = plan_of(method, signals), signals.hidden(), signals.geometry
    count = wanted(method.keep, len(hidden))
    assert plan.kept == count
    if count == len(hidden):
        assert torch.equal(plan.apply(hidden), hidden)
        return plan
    cells = list(zip(geometry.row.tolist(), geometry.column.tolist(), strict=True))
    cells = [(0, 0)] * len(hidden) if geometry.row.min() < 0 else cells
    attention = signals.vision().saliency(method.tower_layer, False)
    values = aot(hidden, frame_numbers(geometry).tolist(), cells, attention, count, *options_of(method))
    assert plan.keep.tolist() == list(values)
    found, expected = plan.apply(hidden.float()), torch.stack(list(values.values())).float()
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    return plan


def options_of(method):
    return method.every, method.fresh, method.local


METHODS = [
    AOT(),
    AOT(0.4, every=3, fresh=0.0),
    AOT(0.5, every=8, fresh=1.0, local=1.0),
    AOT(0.1, every=1),
    AOT(9, every=5, local=0.0, tower_layer=-1),
    AOT(0.85),
]


@pytest.mark.parametrize("geometry", [LONG, THINNED], ids=["long", "thinned"])
@pytest.mark.parametrize("method", METHODS, ids=str)
def test_plan_is_the_reference(geometry, method):
    compare(method, film(geometry))


@pytest.mark.parametrize("kind", CONTENTS)
@pytest.mark.parametrize("layout", list(LAYOUTS))
@pytest.mark.parametrize("method", [AOT(0.4), AOT(1), AOT(1.0)], ids=str)
def test_small_clips_duplicates_and_zeros(layout, kind, method):
    compare(method, row(LAYOUTS[layout], kind))


def test_tokens_without_a_grid():
    compare(AOT(), film(Geometry.flat(6, 9)))


def test_transport_moves_equal_parts_to_the_cheap_targets():
    cost = torch.tensor([[0.0, 1.0], [1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    plan = transport(cost)
    torch.testing.assert_close(plan.sum(0), torch.full((2,), 0.5), atol=1e-4, rtol=0)
    torch.testing.assert_close(plan.sum(1), torch.full((4,), 0.25), atol=1e-4, rtol=0)
    assert (plan.argmax(1) == torch.tensor([0, 1, 0, 1])).all()


def test_values_are_means_of_all_that_were_taken_in():
    """A clip that shows one thing alone keeps showing it: shares add up to one."""
    signals = film(LONG)
    same = torch.ones_like(signals.hidden()) * 3.0
    plan = plan_of(AOT(0.3), replace(signals, hidden=lambda: same))
    torch.testing.assert_close(plan.apply(same), same[: plan.kept])
    assert (plan.owner >= 0).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_chooses_as_float32(dtype):
    signals = film(LONG)
    half = signals.hidden().to(dtype)
    compare(AOT(), replace(signals, hidden=lambda: half))


def test_contract():
    looking.assert_contract(AOT(0.4), identity=AOT(1.0))


@pytest.mark.parametrize("options", [{"keep": 0}, {"every": 0}, {"fresh": 1.1}, {"local": -0.1}, {"tower_layer": 0}])
def test_bad_options_raise(options):
    with pytest.raises(OptionError):
        AOT(**options)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_model_reads_what_is_declared(family):
    looking.assert_declared(AOT(0.45), family, lambda total: wanted(0.45, total), by_frame=False)
