"""Frames by Taylor residual against their reference, alone and in front of every other method."""

from __future__ import annotations

import pytest
import torch

import framefusion as ff
from framefusion.core.errors import OptionError
from framefusion.core.layout import Geometry, frame_numbers
from framefusion.core.method import Method
from framefusion.core.ops.budget import kept_count
from framefusion.core.registry import methods
from framefusion.methods.taylor_frames import TaylorFrames
from framefusion.testing.methods import can_walk, layers_needed, make_row, walk
from tests.reference import taylor_frames
from tests.support.selection import KEEPS, SHAPES, assert_clips_are_apart, kept_by, model_of, noise
from tests.support.tiny import moving_clip, prompt


@pytest.mark.parametrize("shape", list(SHAPES))
@pytest.mark.parametrize("keep", KEEPS)
@pytest.mark.parametrize("order", [0, 1, 2])
def test_frames_are_those_of_the_reference(shape, keep, order):
    geometry = SHAPES[shape]
    hidden, frame = noise(geometry), frame_numbers(geometry).tolist()
    count = kept_count(keep, max(frame) + 1)
    wanted = taylor_frames.kept(hidden.double().tolist(), frame, count, order)
    assert kept_by(TaylorFrames(keep, order=order), geometry, hidden) == wanted


def of_path(*points):
    """A clip of two tokens a frame whose means are the points of a line."""
    hidden = torch.tensor([[float(x), 1.0] for x in points]).repeat_interleave(2, 0)
    return Geometry.grid(len(points), 1, 2), hidden


def frames_of(method, geometry, hidden):
    return sorted(set(geometry.frame[kept_by(method, geometry, hidden)].tolist()))


def test_what_goes_on_as_before_is_no_surprise():
    still, steady = of_path(*[0, 0, 0, 0, 5, 5, 5, 5]), of_path(*[0, 1, 2, 3, 9, 10, 11, 12])
    assert frames_of(TaylorFrames(2, order=0), *still) == [0, 4]
    assert frames_of(TaylorFrames(2, order=1), *steady) == [0, 4]
    faster = of_path(*[0, 1, 3, 6, 10, 30, 35])
    assert frames_of(TaylorFrames(2, order=2), *faster)[1] >= 5


@pytest.mark.parametrize("value", [0.0, 1.0, float("nan"), float("inf")])
def test_the_count_holds_where_nothing_surprises(value):
    geometry = Geometry.grid(6, 2, 2)
    assert len(kept_by(TaylorFrames(3), geometry, torch.full((24, 8), value))) == 12


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_compared_in_float32(dtype):
    geometry = SHAPES["9x3x5"]
    hidden = noise(geometry, dtype=dtype)
    wanted = taylor_frames.kept(hidden.double().tolist(), geometry.frame.tolist(), 4, 2)
    assert kept_by(TaylorFrames(4), geometry, hidden) == wanted


def test_clips_do_not_mix():
    assert_clips_are_apart(TaylorFrames(0.5))


@pytest.mark.parametrize("options", [{"keep": 0}, {"order": 3}, {"order": -1}])
def test_bad_options_raise(options):
    with pytest.raises(OptionError):
        TaylorFrames(**options)


def moderate(name: str) -> Method:
    cls = methods.load(name)
    return cls(**{cls.facts.budget: 0.5})


@pytest.mark.parametrize("name", [name for name in methods if can_walk(methods.load(name))])
def test_any_method_acts_on_the_frames_it_leaves(name):
    geometry = Geometry.grid(8, 4, 4)
    row = make_row("clip", geometry, torch.randn(len(geometry), 16, generator=torch.Generator().manual_seed(3)))
    frames, method = TaylorFrames(0.5), moderate(name)
    alone = walk(frames, row).end.geometry.frame.unique()
    both = walk(ff.Chain(frames, method), row, layers_needed(method)).end
    assert len(alone) == 4 and 0 < len(both.geometry) < len(geometry)
    assert set(both.geometry.frame.tolist()) <= set(alone.tolist())


@pytest.mark.parametrize("family", ["qwen3_vl", "llava_onevision"])
@pytest.mark.parametrize("name", ["temporal_ward", "flashvid", "fastv", "unicomp"])
def test_a_chain_in_a_model(family, name):
    model, method = model_of(family), moderate(name)
    inputs = prompt(family, [[("video", moving_clip(frames=8, change=1.0)), ("text", "what?")]])
    with torch.no_grad(), ff.reduce(model, ff.Chain(TaylorFrames(0.5), method)) as reduction:
        model.generate(**inputs, max_new_tokens=2, do_sample=False)
    steps = reduction.report.steps
    assert steps[0].method == "taylor_frames" and steps[0].tokens_out < steps[0].tokens_in
    assert steps[-1].method == name and steps[-1].tokens_out < steps[0].tokens_out
