"""The controls Uniform, FrameSample and SpatialPool against their references."""

from __future__ import annotations

import pytest
import torch

import framefusion as ff
from framefusion.core.errors import LayoutError, OptionError
from framefusion.core.layout import NEWLINE, Geometry, Layout
from framefusion.methods.frame_sample import FrameSample
from framefusion.methods.spatial_pool import SpatialPool
from framefusion.methods.uniform import Uniform
from tests.reference import frame_sample, spatial_pool, uniform
from tests.support.selection import (
    FAMILIES,
    KEEPS,
    LAYERS,
    SHAPES,
    assert_clips_are_apart,
    assert_declared_in_a_model,
    kept_by,
    model_of,
    noise,
    plan_of,
)
from tests.support.tiny import moving_clip, prompt

every_shape = pytest.mark.parametrize("shape", list(SHAPES))
every_keep = pytest.mark.parametrize("keep", KEEPS)


def cells(geometry: Geometry) -> list[tuple[int, int, int]]:
    return list(zip(geometry.frame.tolist(), geometry.row.tolist(), geometry.column.tolist(), strict=True))


@every_shape
@every_keep
def test_uniform_is_the_reference(shape, keep):
    geometry = SHAPES[shape]
    assert kept_by(Uniform(keep), geometry, noise(geometry)) == uniform.kept(len(geometry), keep)


@every_shape
@every_keep
def test_frame_sample_is_the_reference(shape, keep):
    geometry = SHAPES[shape]
    assert kept_by(FrameSample(keep), geometry, noise(geometry)) == frame_sample.kept(geometry.frame.tolist(), keep)


@every_shape
@every_keep
@pytest.mark.parametrize("weighted", [False, True])
def test_spatial_pool_is_the_reference(shape, keep, weighted):
    geometry = SHAPES[shape]
    hidden = noise(geometry, seed=2)
    size = 1.0 + torch.arange(len(geometry)) % 3 if weighted else torch.ones(len(geometry))
    plan = plan_of(SpatialPool(keep), geometry, hidden, size)
    stay, means = spatial_pool.pooled(cells(geometry), keep, hidden.tolist(), size.tolist())
    assert plan.keep.tolist() == stay
    torch.testing.assert_close(plan.apply(hidden), torch.tensor(means), rtol=1e-6, atol=1e-6)


def test_a_stride_is_even():
    geometry = Geometry.grid(2, 5, 4)
    assert kept_by(Uniform(0.25), geometry, noise(geometry)) == list(range(0, 40, 4))


def test_frames_are_whole_and_even():
    geometry = Geometry.grid(6, 2, 2, row_newline=True)
    plan = plan_of(FrameSample(3), geometry, noise(geometry))
    assert geometry.frame[plan.keep].tolist() == [0] * 6 + [2] * 6 + [4] * 6


@pytest.mark.parametrize(("keep", "side"), [(1.0, 1), (0.3, 2), (0.25, 3), (0.1, 4), (0.05, 7), (9, 3), (1, 7)])
def test_the_pooling_factor_comes_as_near_as_possible(keep, side):
    geometry = Geometry.grid(1, 7, 7)
    assert SpatialPool(keep).factor(geometry) == side
    assert plan_of(SpatialPool(keep), geometry, noise(geometry)).kept == (-(-7 // side)) ** 2


def test_pooled_blocks_sit_at_their_first_cell_and_rows_without_tokens_lose_their_newline():
    geometry = Geometry.grid(1, 3, 3, row_newline=True)
    hidden = torch.arange(12.0)[:, None]
    plan = plan_of(SpatialPool(4), geometry, hidden)
    assert plan.keep.tolist() == [0, 2, 3, 8, 10, 11]
    assert plan.apply(hidden).flatten().tolist() == [2.5, 4.0, 3.0, 8.5, 10.0, 11.0]
    assert geometry.kind[plan.keep].tolist().count(NEWLINE) == 2


def test_half_precision_means_are_summed_in_float32():
    geometry = Geometry.grid(1, 16, 16)
    hidden = torch.full((256, 4), 1.0 + 2**-7, dtype=torch.bfloat16)
    assert torch.equal(plan_of(SpatialPool(1), geometry, hidden).apply(hidden), hidden[:1])


def test_a_layout_without_a_grid_cannot_be_pooled():
    geometry, _ = Layout.from_patch_types([[-1, 0, 1, 0, 1, -1]]).rows[0]
    with pytest.raises(LayoutError, match="no rows and columns"):
        plan_of(SpatialPool(), geometry, noise(geometry))


@pytest.mark.parametrize("method", [Uniform(0.4), FrameSample(0.4), SpatialPool(0.25)], ids=lambda m: m.facts.name)
def test_clips_do_not_mix(method):
    assert_clips_are_apart(method)


@pytest.mark.parametrize("cls", [Uniform, FrameSample, SpatialPool])
@pytest.mark.parametrize("keep", [0, 0.0, 1.2, -3, True, float("nan")])
def test_bad_budgets(cls, keep):
    with pytest.raises(OptionError, match="keep"):
        cls(keep)


def test_bad_layers():
    with pytest.raises(OptionError, match="layer"):
        Uniform(layer=-1)
    inputs = prompt("qwen3_vl", [[("video", moving_clip()), ("text", "?")]])
    with ff.reduce(model_of("qwen3_vl"), Uniform(layer=LAYERS)), pytest.raises(OptionError, match="no layer 4"):
        model_of("qwen3_vl")(**inputs)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("layer", [0, 2])
def test_uniform_in_a_model(family, layer):
    declared = lambda patches: uniform.count(len(patches), 0.4)  # noqa: E731
    assert_declared_in_a_model(Uniform(0.4, layer), family, declared, from_layer=layer)


@pytest.mark.parametrize("family", FAMILIES)
def test_frame_sample_in_a_model(family):
    declared = lambda patches: len(frame_sample.kept(patches.frame.tolist(), 0.5))  # noqa: E731
    assert_declared_in_a_model(FrameSample(0.5), family, declared)


@pytest.mark.parametrize("family", FAMILIES)
def test_spatial_pool_in_a_model(family):
    def declared(patches: Geometry) -> int:
        return len(spatial_pool.blocks(cells(patches), spatial_pool.factor(cells(patches), 0.25)))

    assert_declared_in_a_model(SpatialPool(0.25), family, declared)
