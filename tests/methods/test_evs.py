"""EVS against its reference."""

from __future__ import annotations

import pytest
import torch

from framefusion.core.layout import Geometry
from framefusion.methods.evs import EVS
from tests.reference import evs
from tests.support.selection import (
    FAMILIES,
    KEEPS,
    SHAPES,
    assert_clips_are_apart,
    assert_declared_in_a_model,
    kept_by,
    noise,
)


def reference(geometry, hidden, keep):
    return evs.kept(geometry.frame.tolist(), geometry.patch.tolist(), hidden.double().tolist(), keep)


@pytest.mark.parametrize("shape", list(SHAPES))
@pytest.mark.parametrize("keep", KEEPS)
@pytest.mark.parametrize("seed", [0, 1])
def test_selection_is_the_reference(shape, keep, seed):
    geometry = SHAPES[shape]
    hidden = noise(geometry, seed)
    kept = kept_by(EVS(keep), geometry, hidden)
    assert kept == reference(geometry, hidden, keep)
    assert len(kept) == evs.count(geometry.frame.tolist(), keep)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_compared_in_float32(dtype):
    geometry = SHAPES["6x5x7"]
    hidden = noise(geometry, dtype=dtype)
    assert kept_by(EVS(), geometry, hidden) == reference(geometry, hidden, 0.3)


def test_only_what_changes_is_kept():
    geometry = Geometry.grid(4, 3, 3)
    hidden = noise(Geometry.grid(1, 3, 3)).repeat(4, 1)
    changed = [9 + 4, 18 + 2, 27 + 8]
    hidden[changed] *= -1
    hidden[18 + 4 :: 9] = hidden[9 + 4]  # The change of the second frame lasts.
    assert kept_by(EVS(11), geometry, hidden) == [*range(9), 13, 20]
    assert kept_by(EVS(13), geometry, hidden) == [*range(9), 13, 20, 29, 35]


@pytest.mark.parametrize("frames", [1, 2, 3])
def test_short_clips_keep_exactly_their_first_frame(frames):
    geometry = Geometry.grid(frames, 3, 5)
    assert kept_by(EVS(0.3), geometry, noise(geometry)) == list(range(15))


def test_ties_go_to_the_earlier_token():
    geometry = Geometry.grid(4, 2, 2)
    assert kept_by(EVS(7), geometry, torch.ones(16, 8)) == list(range(7))
    assert kept_by(EVS(7), geometry, torch.zeros(16, 8)) == list(range(7))


def test_clips_do_not_mix():
    assert_clips_are_apart(EVS(0.4))


@pytest.mark.parametrize("family", FAMILIES)
def test_in_a_model(family):
    assert_declared_in_a_model(EVS(0.6), family, lambda patches: evs.count(patches.frame.tolist(), 0.6))
