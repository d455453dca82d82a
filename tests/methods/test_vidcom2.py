"""VidCom2 against its reference."""

from __future__ import annotations

import pytest
import torch

from framefusion.core.layout import Geometry
from framefusion.methods.vidcom2 import VidCom2
from tests.reference import vidcom2
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
    return vidcom2.kept(geometry.frame.tolist(), hidden.double().tolist(), keep)


def coloured(geometry, seed=0, dtype=torch.float32):
    """Noise around a direction per frame, in channels of unequal variance, so that frames differ in budget."""
    tint = torch.randn(int(geometry.frame.max()) + 1, 16, generator=torch.Generator().manual_seed(seed + 50))
    hidden = (noise(geometry, seed) + 2.0 * tint[geometry.frame]) * torch.linspace(0.5, 2.0, 16)
    return hidden.to(dtype)


@pytest.mark.parametrize("shape", list(SHAPES))
@pytest.mark.parametrize("keep", KEEPS)
@pytest.mark.parametrize("seed", [0, 1])
def test_selection_is_the_reference(shape, keep, seed):
    geometry = SHAPES[shape]
    hidden = coloured(geometry, seed)
    kept = kept_by(VidCom2(keep), geometry, hidden)
    assert kept == reference(geometry, hidden, keep)
    assert len(kept) == vidcom2.count(len(geometry), keep)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_compared_in_float32(dtype):
    geometry = SHAPES["6x5x7"]
    hidden = coloured(geometry, dtype=dtype)
    assert kept_by(VidCom2(), geometry, hidden) == reference(geometry, hidden, 0.25)


def test_a_frame_unlike_its_video_keeps_more():
    geometry = Geometry.grid(4, 6, 6)
    still = noise(Geometry.grid(1, 6, 6)) * 0.1 + 1.0
    hidden = torch.cat([still, still, -still, still])
    per_frame = geometry.frame[kept_by(VidCom2(0.25), geometry, hidden)].bincount(minlength=4).tolist()
    assert per_frame[2] > max(per_frame[0], per_frame[1], per_frame[3]) and sum(per_frame) == 36


def test_the_token_that_stands_out_is_kept():
    geometry = Geometry.grid(3, 4, 4)
    hidden = torch.ones(48, 16) + 0.01 * noise(geometry)
    hidden[[3, 20, 40]] = -1.0
    assert {3, 20, 40} <= set(kept_by(VidCom2(0.25), geometry, hidden))


@pytest.mark.parametrize("fill", [0.0, 1.0])
def test_equal_tokens_meet_the_count(fill):
    geometry = Geometry.grid(5, 3, 3)
    assert len(kept_by(VidCom2(0.3), geometry, torch.full((45, 8), fill))) == round(0.3 * 45)


def test_fewer_tokens_than_frames():
    geometry = Geometry.grid(6, 2, 2)
    assert len(kept_by(VidCom2(2), geometry, noise(geometry))) == 2


def test_clips_do_not_mix():
    assert_clips_are_apart(VidCom2(0.4))


@pytest.mark.parametrize("family", FAMILIES)
def test_in_a_model(family):
    assert_declared_in_a_model(VidCom2(0.4), family, lambda patches: vidcom2.count(len(patches), 0.4))
