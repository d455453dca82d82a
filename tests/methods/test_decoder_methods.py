"""What all methods inside the language model have in common."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
import torch

from framefusion.core.errors import LayoutError, OptionError, UnsupportedPointError
from framefusion.core.layout import Geometry
from framefusion.core.method import Setting, before
from framefusion.core.registry import method
from framefusion.methods.adaptprune import AdaptPrune
from framefusion.methods.adsc import ADSC
from framefusion.methods.fastv import FastV
from framefusion.methods.holitom import HoliTom
from framefusion.methods.pyramiddrop import PyramidDrop
from framefusion.methods.sparsevlm import SparseVLM
from framefusion.methods.sttm import STTM
from framefusion.testing.signals import make_signals
from tests.methods.decoder import GRIDS, LAYERS, MODELS, Walk, check_in_model, clips, everything, patches, values

CLASSES = (AdaptPrune, ADSC, FastV, HoliTom, PyramidDrop, SparseVLM, STTM)
SCORED = (AdaptPrune, FastV, HoliTom, PyramidDrop, SparseVLM)
ROUNDING = {AdaptPrune: int, PyramidDrop: int}
VARIANTS = [
    *(cls(**{cls.facts.budget: 0.4}) for cls in CLASSES),
    SparseVLM(keep=0.4, recycle=True),
    STTM(root=0, threshold=0.5),
]


def identity_of(cls):
    return cls(**{cls.facts.budget: 1.0})


@pytest.mark.parametrize("cls", CLASSES)
def test_is_registered_under_its_name(cls):
    assert method(cls.facts.name) is cls
    assert cls.__name__.lower() == cls.facts.name


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("cls", CLASSES)
def test_full_budget_changes_nothing(cls, grid):
    geometry = GRIDS[grid]
    for dtype in (torch.float32, torch.bfloat16):
        hidden = values(geometry).to(dtype)
        walk = Walk(identity_of(cls), geometry, hidden, everything(geometry, dtype=dtype))
        assert torch.equal(walk.alive, torch.arange(len(geometry)))
        assert torch.equal(walk.hidden, hidden)


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("cls", [cls for cls in CLASSES if cls is not STTM])
@pytest.mark.parametrize("keep", [0.01, 0.3, 0.7, 1, 5, 10_000])
def test_every_clip_keeps_the_declared_count(cls, grid, keep):
    geometry = GRIDS[grid]
    walk = Walk(cls(keep=keep), geometry, values(geometry), everything(geometry))
    for clip in clips(geometry):
        total = len(patches(geometry, clip))
        wanted = keep if isinstance(keep, int) else ROUNDING.get(cls, round)(keep * total)
        assert len(patches(geometry[walk.alive], clip)) == min(total, max(1, wanted))


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("kind", ["random", "duplicates", "equal", "zeros"])
@pytest.mark.parametrize("variant", VARIANTS, ids=repr)
def test_odd_inputs_in_every_precision(variant, grid, kind):
    geometry = GRIDS[grid]
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        hidden = values(geometry, kind).to(dtype)
        untouched = hidden.clone()
        walk = Walk(variant, geometry, hidden, everything(geometry, dtype=dtype))
        again = Walk(variant, geometry, hidden, everything(geometry, dtype=dtype))
        assert torch.equal(hidden, untouched)
        assert walk.hidden.dtype == dtype and bool(walk.hidden.isfinite().all())
        assert torch.equal(walk.alive, walk.alive.sort().values) and len(walk.alive.unique()) == len(walk.alive)
        assert set(clips(geometry[walk.alive])) == set(clips(geometry))
        assert torch.equal(walk.alive, again.alive) and torch.equal(walk.hidden, again.hidden)
        if kind == "equal" and dtype == torch.float32:
            torch.testing.assert_close(walk.hidden, hidden[: len(walk.hidden)])


@pytest.mark.parametrize("variant", VARIANTS, ids=repr)
def test_no_given_tensor_changes(variant):
    geometry = GRIDS["two clips"]
    signals_at = everything(geometry)
    given = {layer: signals_at(layer, torch.arange(len(geometry))) for layer in range(LAYERS)}
    size = torch.ones(len(geometry))
    (stage,) = variant.stages()
    state = stage.start(Setting(LAYERS, geometry))
    for point in stage.points(LAYERS):
        signals = make_signals(geometry, values(geometry), point, size=size, **given[point.layer])
        _, state = stage.step(state, signals)
    for layer, tensors in given.items():
        for name, fresh in signals_at(layer, torch.arange(len(geometry))).items():
            assert torch.equal(tensors[name], fresh), name
    assert torch.equal(size, torch.ones(len(geometry)))


@pytest.mark.parametrize("variant", VARIANTS, ids=repr)
def test_a_clip_is_decided_by_itself(variant):
    """A second clip in the row changes nothing for the first."""
    both, first = GRIDS["two clips"], Geometry.grid(2, 4, 4)
    hidden, signals_at = values(both), everything(both)
    inside = torch.arange(len(first))
    alone = Walk(variant, first, hidden[inside], lambda layer, alive: signals_at(layer, alive))
    together = Walk(variant, both, hidden, signals_at)
    assert torch.equal(together.alive[together.alive < len(first)], alone.alive)
    assert torch.equal(together.hidden[: len(alone.hidden)], alone.hidden)


@pytest.mark.parametrize("grid", ["newlines", "closing newline"])
@pytest.mark.parametrize("variant", VARIANTS, ids=repr)
def test_newlines_follow_what_they_close(variant, grid):
    geometry = GRIDS[grid]
    left = geometry[Walk(variant, geometry, values(geometry), everything(geometry)).alive]
    rows = {(int(f), int(r)) for f, r, kind in zip(left.frame, left.row, left.kind, strict=True) if kind == 0}
    newlines = {(int(f), int(r)) for f, r, kind in zip(left.frame, left.row, left.kind, strict=True) if kind == 1}
    assert newlines == (rows if grid == "newlines" else {(1, -1)})


@pytest.mark.parametrize("cls", SCORED)
def test_without_attention_there_is_one_clear_error(cls):
    geometry = GRIDS["square"]
    signals_at = everything(geometry)
    with pytest.raises(UnsupportedPointError, match="no attention"):
        Walk(cls(), geometry, values(geometry), lambda layer, alive: signals_at(0, alive))


@pytest.mark.parametrize("cls", [AdaptPrune, STTM])
def test_a_layout_without_cells_is_refused(cls):
    geometry = GRIDS["square"]
    geometry = replace(geometry, row=torch.full_like(geometry.row, -1), column=torch.full_like(geometry.column, -1))
    with pytest.raises(LayoutError, match="grid"):
        Walk(cls(), geometry, values(geometry), everything(geometry))


@pytest.mark.parametrize("cls", CLASSES)
def test_bad_options_raise(cls):
    budget, names = cls.facts.budget, {field.name for field in fields(cls)}
    bad = [{budget: float("nan")}, {budget: -2.0}, {budget: 1.5}]
    if budget == "keep":
        bad += [{"keep": value} for value in (0, 0.0, -1, True)]
    if "layer" in names:
        bad += [{"layer": -1}] + [{"layer": 0}] * (cls in SCORED)
    if "layers" in names:
        bad += [{"layers": value} for value in ((), (3, 2), (2, 2), (-1,), 3, "ab", (1.5,))]
        bad += [{"shares": value} for value in ((), (0.2, 0.4), (1.2,), (0.5, 0.0), 0.5)]
        bad += [{"layers": (1, 2), "shares": (0.5,)}] + [{"layers": (0, 2)}] * (cls in SCORED)
    for options in bad:
        with pytest.raises(OptionError):
            cls(**options)


@pytest.mark.parametrize("cls", CLASSES)
def test_a_layer_the_model_lacks_raises(cls):
    options = {"layer": 9} if "layer" in {field.name for field in fields(cls)} else {"layers": (1, 9)}
    (stage,) = cls(**options).stages()
    with pytest.raises(OptionError, match="no layer 9"):
        stage.start(Setting(LAYERS, GRIDS["square"]))


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("variant", VARIANTS, ids=repr)
def test_in_a_model(variant, name):
    read = check_in_model(variant, name)
    points = [point.layer for point in variant.stages()[0].points(LAYERS)]
    first = min(layer for layer in points if layer or isinstance(variant, ADSC))
    # LLaVA-OneVision closes a video with a newline token, which is not a patch.
    closing = int(name == "llava_onevision")
    assert len(set(read[:first])) == 1
    assert before(first) in tuple(variant.stages()[0].points(LAYERS))
    if isinstance(variant, STTM):
        assert read[first:] == [read[-1]] * (LAYERS - first) and closing < read[-1] < read[0]
    else:
        total = read[0] - closing
        assert read[-1] - closing == max(1, ROUNDING.get(type(variant), round)(0.4 * total))
        assert read == sorted(read, reverse=True)
