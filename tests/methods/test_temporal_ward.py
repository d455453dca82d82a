"""Temporal Ward merging against its reference."""

from __future__ import annotations

import pytest
import torch

from framefusion.core.layout import Geometry
from framefusion.core.ops.budget import kept_count
from framefusion.methods import temporal_ward as temporal_ward_method
from framefusion.methods.temporal_ward import TemporalWard
from tests.reference import temporal_ward
from tests.support.selection import (
    FAMILIES,
    KEEPS,
    SHAPES,
    assert_clips_are_apart,
    assert_declared_in_a_model,
    kept_by,
    noise,
    plan_of,
    thinned,
)


def groups_of(plan):
    """Tokens that each survivor stands for, in prompt order."""
    groups = {token: [] for token in plan.keep.tolist()}
    for token, slot in enumerate(plan.owner.tolist()):
        groups[plan.keep[slot].item()].append(token)
    return groups


def reference(method, geometry, hidden, size=None):
    sizes = torch.ones(len(geometry)) if size is None else size
    count = kept_count(method.keep, len(geometry))
    found = temporal_ward.merged(
        geometry.frame.tolist(),
        geometry.patch.tolist(),
        hidden.double().tolist(),
        sizes.tolist(),
        count,
        method.time_weight,
    )
    return {head: sorted(tokens) for head, tokens in found.items()}


@pytest.mark.parametrize("shape", list(SHAPES))
@pytest.mark.parametrize("keep", KEEPS)
@pytest.mark.parametrize("weight", [0.0, 1.0, 9.0])
def test_groups_are_those_of_the_reference(shape, keep, weight):
    geometry, method = SHAPES[shape], TemporalWard(keep, time_weight=weight)
    hidden = noise(geometry)
    plan = plan_of(method, geometry, hidden)
    assert groups_of(plan) == reference(method, geometry, hidden)
    assert plan.kept == kept_count(keep, len(geometry))


@pytest.mark.parametrize("shape", list(SHAPES))
@pytest.mark.parametrize("position", ["first", "middle", "last"])
def test_a_run_stands_at_one_of_its_tokens(shape, position):
    geometry, hidden = SHAPES[shape], noise(SHAPES[shape])
    plan = plan_of(TemporalWard(position=position), geometry, hidden)
    wanted = {}
    for tokens in reference(TemporalWard(), geometry, hidden).values():
        line = sorted(tokens, key=lambda token: (geometry.patch[token].item(), token))
        wanted[line[{"first": 0, "middle": (len(line) - 1) // 2, "last": len(line) - 1}[position]]] = sorted(tokens)
    assert groups_of(plan) == wanted
    means = [hidden[wanted[token]].mean(0) for token in plan.keep.tolist()]
    assert torch.allclose(plan.apply(hidden), torch.stack(means), atol=1e-5)


def test_earlier_merges_weigh():
    geometry = thinned(Geometry.grid(9, 3, 3))
    hidden = noise(geometry)
    size = torch.randint(1, 9, (len(geometry),), generator=torch.Generator().manual_seed(1)).float()
    plan = plan_of(TemporalWard(), geometry, hidden, size)
    groups = groups_of(plan)
    assert groups == reference(TemporalWard(), geometry, hidden, size)
    assert groups != groups_of(plan_of(TemporalWard(), geometry, hidden))
    means = [(size[group, None] * hidden[group]).sum(0) / size[group].sum() for group in groups.values()]
    assert torch.allclose(plan.apply(hidden), torch.stack(means), atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_compared_in_float32(dtype):
    geometry = SHAPES["6x5x7"]
    hidden = noise(geometry, dtype=dtype)
    assert groups_of(plan_of(TemporalWard(), geometry, hidden)) == reference(TemporalWard(), geometry, hidden)


def test_what_changes_keeps_its_own_token():
    geometry = Geometry.grid(8, 2, 2)
    hidden = noise(Geometry.grid(1, 2, 2)).repeat(8, 1)
    hidden[5 * 4 + 2] *= -1  # one frame, one place
    assert kept_by(TemporalWard(6, time_weight=0.0), geometry, hidden) == [0, 1, 2, 3, 5 * 4 + 2, 6 * 4 + 2]


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_a_clip_that_stands_still_is_cut_about_evenly(value):
    geometry = Geometry.grid(8, 2, 2)
    groups = groups_of(plan_of(TemporalWard(8, repeated=1.0), geometry, torch.full((32, 8), value)))
    assert len(groups) == 8
    assert {len(group) for group in groups.values()} <= {2, 3, 4, 5, 6}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_the_count_holds_where_nothing_can_be_compared(value):
    geometry = Geometry.grid(8, 2, 2)
    groups = groups_of(plan_of(TemporalWard(8), geometry, torch.full((32, 8), value)))
    assert len(groups) == 8
    assert sorted(token for group in groups.values() for token in group) == list(range(32))


def still(*moments: int, by: float = 1.0) -> torch.Tensor:
    """(32, 16) of eight frames of 2 x 2 tokens, all as the first, but that one token changes at each of `moments`."""
    frames = noise(Geometry.grid(1, 2, 2)).repeat(8, 1, 1)
    for moment in moments:
        frames[moment:, 1] += by * torch.arange(16.0).roll(moment)
    return frames.flatten(0, 1)


@pytest.mark.parametrize(
    ("method", "moments", "kept"),
    [
        (TemporalWard(0.9), (), 4),
        (TemporalWard(0.9), (3,), 8),
        (TemporalWard(0.9), (2, 3, 7), 16),
        (TemporalWard(0.25), (2, 3, 7), 8),
        (TemporalWard(0.9, repeated=1.0), (), 29),
        (TemporalWard(0.9, proportional_attention=False), (), 29),
        (TemporalWard(1.0), (), 32),
    ],
)
def test_frames_that_repeat_take_no_part_of_the_budget(method, moments, kept):
    plan = plan_of(method, Geometry.grid(8, 2, 2), still(*moments))
    assert plan.kept == kept
    size = torch.zeros(kept).index_add_(0, plan.owner, torch.ones(32))
    assert size.sum() == 32


def test_directions_are_made_once(monkeypatch):
    made, normalize = [], temporal_ward_method.normalize

    def counted(*args, **more):
        made.append(1)
        return normalize(*args, **more)

    monkeypatch.setattr(temporal_ward_method, "normalize", counted)
    assert plan_of(TemporalWard(0.9), Geometry.grid(8, 2, 2), still(3)).kept == 8
    assert made == [1]


def test_what_drifts_is_compared_with_the_last_frame_that_was_new():
    """Every frame is close to the one before it, and the last is far from the first."""
    slow = still(*range(1, 8), by=0.02)
    step = torch.cosine_similarity(slow[1::4][1:], slow[1::4][:-1], dim=-1)
    far = torch.cosine_similarity(slow[1], slow[29], dim=-1)
    between = float((step.min() + far) / 2)
    assert far < between < step.min()
    method = TemporalWard(0.9, repeated=between)
    assert 4 < plan_of(method, Geometry.grid(8, 2, 2), slow).kept < 32


def test_frames_of_unlike_sizes_do_not_repeat_each_other():
    geometry = thinned(Geometry.grid(8, 2, 2))
    plan = plan_of(TemporalWard(0.9), geometry, torch.ones(len(geometry), 16))
    assert plan.kept <= kept_count(0.9, len(geometry))


def test_every_place_keeps_a_token_while_it_can():
    geometry = Geometry.grid(6, 3, 3)
    hidden = noise(geometry, seed=3)
    for count in range(9, 54):
        kept = kept_by(TemporalWard(count), geometry, hidden)
        assert {token % 9 for token in kept} == set(range(9))


def test_a_picture_merges_in_reading_order():
    geometry = Geometry.grid(1, 2, 3)
    hidden = torch.eye(8)[[0, 0, 1, 1, 2, 2]]
    assert groups_of(plan_of(TemporalWard(3), geometry, hidden)) == {0: [0, 1], 2: [2, 3], 4: [4, 5]}


def test_clips_do_not_mix():
    assert_clips_are_apart(TemporalWard(0.4))


@pytest.mark.parametrize("family", FAMILIES)
def test_in_a_model(family):
    assert_declared_in_a_model(TemporalWard(0.6), family, lambda patches: kept_count(0.6, len(patches)))
