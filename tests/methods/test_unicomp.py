"""UniComp against its reference."""

from __future__ import annotations

import pytest
import torch

from framefusion.core.errors import OptionError
from framefusion.core.layout import Geometry, frame_numbers
from framefusion.core.ops.budget import kept_count
from framefusion.methods.unicomp import UniComp
from tests.reference.unicomp import unicomp
from tests.support.looking import film
from tests.support.selection import (
    FAMILIES,
    KEEPS,
    SHAPES,
    assert_clips_are_apart,
    assert_declared_in_a_model,
    noise,
    plan_of,
)


def compare(method, geometry, hidden, size=None):
    plan, count = plan_of(method, geometry, hidden, size), kept_count(method.keep, len(geometry))
    assert plan.kept == count
    if count == len(geometry):
        assert torch.equal(plan.apply(hidden), hidden)
        return plan
    frame, sizes = frame_numbers(geometry).tolist(), [1.0] * len(geometry) if size is None else size.tolist()
    rows = hidden.double().tolist()
    values = unicomp(rows, frame, geometry.patch.tolist(), sizes, count, method.frames, method.tokens)
    assert plan.keep.tolist() == list(values)
    torch.testing.assert_close(plan.apply(hidden.float()), torch.tensor(list(values.values())), atol=1e-5, rtol=1e-5)
    return plan


@pytest.mark.parametrize("shape", list(SHAPES))
@pytest.mark.parametrize("keep", KEEPS)
def test_plan_is_the_reference(shape, keep):
    compare(UniComp(keep), SHAPES[shape], noise(SHAPES[shape]))


@pytest.mark.parametrize("shape", ["4x4x4", "2x3x3", "thinned"])
@pytest.mark.parametrize("distances", [(0.9, 1.0), (2.0, 0.0), (0.0, 2.0)], ids=str)
def test_any_distances(shape, distances):
    frames, tokens = distances
    compare(UniComp(frames=frames, tokens=tokens), SHAPES[shape], noise(SHAPES[shape]))


@pytest.mark.parametrize("options", [{}, {"frames": 0.05}, {"frames": 0.3, "tokens": 0.5}, {"keep": 0.6}], ids=str)
def test_films_of_scenes(options):
    geometry = Geometry.grid(9, 4, 4)
    for seed in range(2):
        compare(UniComp(**options), geometry, film(geometry, seed).hidden())


@pytest.mark.parametrize("fill", ["equal", "zeros", "pairs", "half zeros"])
@pytest.mark.parametrize("keep", [1, 0.1, 0.3, 0.8])
def test_duplicates_meet_the_count(fill, keep):
    geometry = Geometry.grid(5, 3, 3)
    hidden = noise(geometry)
    hidden = {
        "equal": hidden[:1].repeat(45, 1),
        "zeros": hidden * 0,
        "pairs": hidden[torch.arange(45) // 2],
        "half zeros": hidden * (torch.arange(45) % 2)[:, None],
    }[fill]
    compare(UniComp(keep), geometry, hidden)


def test_frames_that_repeat_become_one_with_their_mean():
    geometry, picture = Geometry.grid(6, 3, 3), torch.eye(9, 16)
    hidden = torch.cat([picture, 1.001 * picture, picture, -picture, -picture, -picture])
    plan = plan_of(UniComp(18, tokens=0.0), geometry, hidden)
    assert plan.keep.tolist() == [*range(9), *range(27, 36)]
    torch.testing.assert_close(plan.apply(hidden), torch.cat([picture * 3.001 / 3, -picture]))
    assert (plan.owner >= 0).all()


def test_a_frame_unlike_the_others_keeps_more():
    geometry = Geometry.grid(6, 4, 4)
    hidden = noise(geometry) + 3.0
    hidden[32:48] -= 6.0
    left = geometry.frame[compare(UniComp(0.25), geometry, hidden).keep].bincount(minlength=6).tolist()
    assert left[2] > max(left[:2] + left[3:])


def test_earlier_merges_weigh():
    geometry = Geometry.grid(6, 3, 3)
    compare(UniComp(0.3, frames=0.9), geometry, noise(geometry), 1.0 + torch.arange(54) % 4)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_compared_in_float32(dtype):
    compare(UniComp(), SHAPES["6x5x7"], noise(SHAPES["6x5x7"], dtype=dtype))


def test_clips_do_not_mix():
    assert_clips_are_apart(UniComp(0.4))


@pytest.mark.parametrize("options", [{"keep": 0}, {"frames": -0.1}, {"frames": 2.1}, {"tokens": float("nan")}])
def test_bad_options_raise(options):
    with pytest.raises(OptionError):
        UniComp(**options)


@pytest.mark.parametrize("family", FAMILIES)
def test_in_a_model(family):
    assert_declared_in_a_model(UniComp(0.6), family, lambda patches: kept_count(0.6, len(patches)))
