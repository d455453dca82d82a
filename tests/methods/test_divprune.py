"""DivPrune against its reference."""

from __future__ import annotations

import pytest
import torch

from framefusion.core.errors import OptionError
from framefusion.core.ops import selection as farthest
from framefusion.methods.divprune import DivPrune
from tests.reference.divprune import divprune
from tests.support import driving
from tests.support.driving import CONTENTS, FAMILIES, LAYOUTS, content, kept_by, row


@pytest.mark.parametrize("kind", CONTENTS)
@pytest.mark.parametrize("layout", list(LAYOUTS))
@pytest.mark.parametrize("keep", [0.098, 0.5, 7])
def test_selection_is_the_reference(layout, kind, keep):
    geometry = LAYOUTS[layout]
    for seed in range(2):
        hidden = content(kind, geometry, seed)
        wanted = round(keep * len(hidden)) if isinstance(keep, float) else keep
        count = min(len(hidden), max(1, wanted))
        expected = list(range(count)) if count == len(hidden) else divprune(hidden, count)
        assert kept_by(DivPrune(keep), row(geometry, hidden)) == expected


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_compared_in_float32(dtype):
    geometry = LAYOUTS["odd"]
    hidden = content("random", geometry).to(dtype)
    assert kept_by(DivPrune(0.3), row(geometry, hidden)) == divprune(hidden, round(0.3 * len(hidden)))


def test_large_clips_are_compared_piece_by_piece(monkeypatch):
    unit = torch.nn.functional.normalize(content("random", LAYOUTS["odd"]), dim=-1)
    whole = farthest.nearest_gap(unit)
    monkeypatch.setattr(farthest, "ROWS", 7)
    torch.testing.assert_close(farthest.nearest_gap(unit), whole)


def test_contract():
    driving.assert_identity(DivPrune(1.0))
    driving.assert_clips_apart(DivPrune(0.4))
    driving.assert_newlines_follow(DivPrune(0.2))
    driving.assert_inputs_unchanged(DivPrune(0.4))


@pytest.mark.parametrize("keep", [0, 0.0, -1, 1.5, True, float("nan")])
def test_bad_options_raise(keep):
    with pytest.raises(OptionError):
        DivPrune(keep)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_model_reads_what_is_declared(family):
    driving.assert_declared(DivPrune(0.3), family, lambda patches: max(1, round(0.3 * patches)))
