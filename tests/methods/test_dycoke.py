"""DyCoke's temporal stage against its reference."""

from __future__ import annotations

import pytest
import torch

from framefusion.core.layout import Geometry
from framefusion.methods.dycoke import DyCoke
from tests.reference import dycoke
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
    return dycoke.kept(geometry.frame.tolist(), geometry.patch.tolist(), hidden.double().tolist(), keep)


@pytest.mark.parametrize("shape", list(SHAPES))
@pytest.mark.parametrize("keep", KEEPS)
@pytest.mark.parametrize("seed", [0, 1])
def test_selection_is_the_reference(shape, keep, seed):
    geometry = SHAPES[shape]
    hidden = noise(geometry, seed)
    kept = kept_by(DyCoke(keep), geometry, hidden)
    assert kept == reference(geometry, hidden, keep)
    assert len(kept) == sum(dycoke.quotas(geometry.frame.tolist(), keep))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_compared_in_float32(dtype):
    geometry = SHAPES["6x5x7"]
    hidden = noise(geometry, dtype=dtype)
    assert kept_by(DyCoke(), geometry, hidden) == reference(geometry, hidden, 0.475)


@pytest.mark.parametrize("frames", range(1, 10))
def test_every_frame_counts_whatever_the_length(frames):
    geometry = Geometry.grid(frames, 14, 14)
    kept = kept_by(DyCoke(0.7), geometry, noise(geometry))
    per_frame = geometry.frame[kept].bincount(minlength=frames).tolist()
    assert all(count == 196 for count in per_frame[::4])
    assert all(count < 196 for number, count in enumerate(per_frame) if number % 4)


def test_the_default_is_the_published_pruning_rate_on_whole_windows():
    geometry = Geometry.grid(8, 14, 14)
    kept = kept_by(DyCoke(), geometry, noise(geometry))
    assert geometry.frame[kept].bincount().tolist() == [196, 58, 58, 58] * 2


def test_each_frame_is_compared_with_its_own_partner():
    first, second = noise(Geometry.grid(1, 2, 2)), noise(Geometry.grid(1, 2, 2), seed=1)
    third = torch.cat([first[:3], second[3:]])
    fourth = torch.cat([second[:1], third[1:]])
    geometry = Geometry.grid(4, 2, 2)
    kept = kept_by(DyCoke(4 + 3), geometry, torch.cat([first, first.clone(), third, fourth]))
    assert kept[:4] == [0, 1, 2, 3] and kept[5:] == [8 + 3, 12 + 0]


def test_the_first_frames_are_never_pruned():
    geometry = Geometry.grid(6, 3, 3)
    assert geometry.frame[kept_by(DyCoke(0.05), geometry, noise(geometry))].unique().tolist() == [0, 4]


def test_clips_do_not_mix():
    assert_clips_are_apart(DyCoke(0.6))


@pytest.mark.parametrize("family", FAMILIES)
def test_in_a_model(family):
    assert_declared_in_a_model(DyCoke(0.6), family, lambda patches: sum(dycoke.quotas(patches.frame.tolist(), 0.6)))
