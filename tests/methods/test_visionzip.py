"""VisionZip against its reference."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from framefusion.core.errors import OptionError
from framefusion.core.layout import frame_groups
from framefusion.methods.visionzip import VisionZip
from tests.reference.visionzip import visionzip
from tests.support import looking
from tests.support.looking import CONTENTS, FAMILIES, LAYOUTS, plan_of, row, wanted


def reference(method, signals, source="cls"):
    """Survivors and values of a whole row, picture by picture."""
    kept, values = [], []
    vision = signals.vision()
    for group in frame_groups(signals.geometry):
        total, count = len(group), wanted(method.keep, len(group))
        share = method.contextual
        contextual = min(round(share * count) if isinstance(share, float) else share, count - 1)
        dominant = max(1, count - contextual - (method.strict and source == "cls"))
        if count == total:
            dominant, contextual = total, 0
        tokens, rows = visionzip(
            signals.hidden()[group],
            vision.saliency(method.tower_layer, False)[group],
            vision.keys(method.tower_layer)[group],
            dominant,
            contextual,
            method.strict,
            signals.size[group],
        )
        kept += group[tokens].tolist()
        values += rows
    return kept, torch.tensor(values)


def assert_like_reference(method, signals, source="cls"):
    plan = plan_of(method, signals)
    kept, values = reference(method, signals, source)
    assert plan.keep.tolist() == kept
    torch.testing.assert_close(plan.apply(signals.hidden()).float(), values, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", CONTENTS)
@pytest.mark.parametrize("layout", list(LAYOUTS))
@pytest.mark.parametrize(
    "method",
    [
        VisionZip(0.3),
        VisionZip(0.5, 0.5, tower_layer=-1),
        VisionZip(9, 4),
        VisionZip(7, 0),
        VisionZip(0.4, 100),
        VisionZip(0.3, 0.4, strict=True),
        VisionZip(1, strict=True),
    ],
    ids=str,
)
def test_plan_is_the_reference(layout, kind, method):
    for seed in range(2):
        assert_like_reference(method, row(LAYOUTS[layout], kind, seed))


def test_published_counts():
    counts = {64: 10, 128: 20, 192: 30}
    assert {count: VisionZip(count)._contextual(count) for count in counts} == counts


def test_means_count_originals():
    geometry = LAYOUTS["picture"]
    size = torch.arange(1.0, len(geometry) + 1)
    assert_like_reference(VisionZip(10, 3), row(geometry, size=size))


def test_strict_adds_two_means_and_leaves_the_class_tokens_place_empty():
    geometry = LAYOUTS["picture"]
    for source in ("cls", "received", "pooling head"):
        signals = row(geometry, source=source)
        assert_like_reference(VisionZip(10, 3, strict=True), signals, source)
        assert plan_of(VisionZip(10, 3, strict=True), signals).kept == 10 - (source == "cls")
    sane, published = (
        plan_of(VisionZip(10, 3, strict=flag), row(geometry, source="received")) for flag in (False, True)
    )
    assert sane.keep.tolist() == published.keep.tolist()
    ones = torch.ones(len(geometry), 1)
    assert torch.allclose(sane.apply(ones), torch.ones(10, 1))
    assert sorted(published.apply(ones).flatten().round().tolist()) == [1.0] * 7 + [2.0] * 3


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_chooses_as_float32(dtype):
    signals = row(LAYOUTS["clip"], dtype=dtype)
    plan = plan_of(VisionZip(0.3, 0.5), signals)
    assert plan.keep.tolist() == reference(VisionZip(0.3, 0.5), signals)[0]
    assert plan.apply(signals.hidden()).dtype == dtype


@pytest.mark.parametrize("strict", [False, True])
def test_contract(strict):
    looking.assert_contract(VisionZip(0.3, strict=strict), identity=VisionZip(1.0, strict=strict))


@pytest.mark.parametrize(
    "options",
    [
        {"keep": 0},
        {"keep": 1.1},
        {"tower_layer": -3},
        {"contextual": 1.0},
        {"contextual": -1},
        {"contextual": True},
        {"contextual": float("nan")},
        {"contextual": "3"},
    ],
)
def test_bad_options_raise(options):
    with pytest.raises(OptionError):
        VisionZip(**options)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_model_reads_what_is_declared(family):
    looking.assert_declared(VisionZip(0.4), family, lambda total: wanted(0.4, total), by_frame=True)


def test_strict_in_a_model():
    method = replace(VisionZip(0.4), strict=True)
    looking.assert_declared(method, "llava", lambda total: wanted(0.4, total) - 1, by_frame=True)
