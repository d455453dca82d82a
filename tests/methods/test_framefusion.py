"""The stage of FrameFusion, driven by hand over random states, against the slow transcription."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from framefusion.core.errors import OptionError
from framefusion.core.layout import TEXT, Geometry
from framefusion.core.method import Setting, after_attention, before
from framefusion.methods.framefusion import FrameFusion
from framefusion.models.qwen_vl import QWEN2_VL
from framefusion.testing.signals import make_signals
from tests.reference.framefusion import Reference, Token

WIDTH = 6
# What the layers between two calls do to a state.
BETWEEN = 0.3


def clip_like(frames, patches, clips=1, seed=0, noise=0.3, text=0):
    """Geometry and states (N, D) of clips whose frames repeat but for noise, `text` tokens between frames."""
    draw = torch.Generator().manual_seed(seed)
    parts, states = [], []
    for clip in range(clips):
        picture = torch.randn(patches, WIDTH, generator=draw)
        for frame in range(frames):
            calm = torch.rand(patches, 1, generator=draw) < 0.6
            scale = torch.where(calm, noise, 2.0)
            picture = picture + scale * torch.randn(patches, WIDTH, generator=draw)
            parts.append(Geometry.grid(1, 1, patches).as_clip(clip, frame))
            states.append(picture)
            if text and (clip, frame) != (clips - 1, frames - 1):
                minus = torch.full((text,), TEXT)
                parts.append(Geometry(minus, minus, minus, minus, minus, minus))
                states.append(torch.randn(text, WIDTH, generator=draw))
    return Geometry.cat(parts), torch.cat(states)


def drive(method, geometry, hidden, layers, seed=0):
    """Every call of the stage in order. Yields point, plan, state before, scores and the survivors' origins."""
    (stage,) = method.stages()
    state, size = stage.start(Setting(layers, geometry)), torch.ones(len(geometry))
    origin = torch.arange(len(geometry))
    draw = torch.Generator().manual_seed(seed)
    for point in stage.points(layers):
        scores = torch.rand(len(hidden), generator=draw)
        given = hidden.clone()
        shown = None if point == before(0) else scores[None]
        signals = make_signals(geometry, given, point, attention=shown, size=size)
        plan, state = stage.step(state, signals)
        assert torch.equal(given, hidden), "the stage changed its input"
        if plan is not None:
            hidden, size, origin, geometry = (
                plan.apply(hidden),
                plan.sizes(size),
                origin[plan.keep],
                geometry[plan.keep],
            )
        yield point, plan, scores, origin, hidden, size
        # Layers lie between two calls.
        hidden = hidden + BETWEEN * torch.randn(hidden.shape, generator=draw).to(hidden.dtype)


def compare(method, geometry, hidden, layers, seed=0):
    """The stage and the reference side by side; returns how many calls merged something and how many pruned."""
    reference = Reference(method.cost, method.similarity_lower_bound, method.ratio_lower_bound, layers, method.strict)
    tokens = [
        Token(number, value.tolist(), int(patch), int(clip))
        for number, (value, patch, clip) in enumerate(zip(hidden, geometry.patch, geometry.clip, strict=True))
    ]
    draw = torch.Generator().manual_seed(seed)
    merged = pruned = 0
    for point, plan, scores, origin, values, size in drive(method, geometry, hidden, layers, seed):
        torch.rand(len(tokens), generator=draw)
        layer = None if point == before(0) else point.layer
        tokens = reference.call(tokens, None if layer is None else scores.tolist(), layer)
        assert [token.number for token in tokens] == origin.tolist(), f"{point}: other tokens"
        found = torch.tensor([token.value for token in tokens])
        torch.testing.assert_close(values, found, atol=1e-5, rtol=1e-5)
        if not method.strict:
            assert [token.size for token in tokens] == size.tolist()
        if plan is not None and plan.kept < plan.count:
            merged, pruned = merged + plan.merges, pruned + (not plan.merges)
        noise = BETWEEN * torch.randn(values.shape, generator=draw)
        for token, value in zip(tokens, values + noise, strict=True):
            token.value = value.tolist()
    return merged, pruned


COSTS = (0.1, 0.3, 0.6, 0.9)
THRESHOLDS = (-1.0, 0.5, 0.8, 0.95, 1.0)


@pytest.mark.parametrize("strict", [False, True], ids=["sane", "strict"])
@pytest.mark.parametrize("cost", COSTS)
@pytest.mark.parametrize("threshold", THRESHOLDS)
def test_equals_the_transcription(strict, cost, threshold):
    for seed in range(3):
        for ratio in (0.0, 0.1, 0.5):
            geometry, hidden = clip_like(4, 7, clips=1 + (seed == 2 and not strict), seed=seed)
            method = FrameFusion(cost, threshold, ratio, strict)
            compare(method, geometry, hidden, layers=28 if strict else 5, seed=seed)


def test_strict_prunes_text_between_frames_too():
    geometry, hidden = clip_like(4, 6, text=2)
    compare(FrameFusion(0.3, 0.9, 0.1, strict=True), geometry, hidden, layers=28)


def test_the_cases_above_merge_in_several_layers_and_prune():
    geometry, hidden = clip_like(6, 8, noise=0.25)
    merged, pruned = compare(FrameFusion(0.3, 0.9, 0.02), geometry, hidden, layers=8)
    assert merged >= 2 and pruned == 1
    merged, pruned = compare(FrameFusion(0.3, 0.9, 0.02, strict=True), geometry, hidden, layers=28)
    assert merged >= 2 and pruned == 1


def test_clips_never_merge_with_each_other():
    geometry, hidden = clip_like(1, 5)
    twice = Geometry.cat([geometry, geometry.as_clip(1)])
    same = torch.cat([hidden, hidden])
    _, plan, *_ = next(drive(FrameFusion(0.3, 0.5), twice, same, 4))
    assert plan.kept == plan.count
    _, plan, *_ = next(drive(FrameFusion(0.3, 0.5, strict=True), twice, same, 28))
    assert plan.kept < plan.count


def final(method, geometry, hidden, layers=4):
    """Origins and states after the whole cascade, and the plans."""
    steps = list(drive(method, geometry, hidden, layers))
    return steps[-1][3], steps[-1][4], [step[1] for step in steps if step[1] is not None]


def test_equal_frames_merge_to_the_budget_and_no_further():
    geometry, hidden = clip_like(1, 5)
    still = Geometry.cat(geometry.as_clip(0, frame) for frame in range(4))
    origin, _, plans = final(FrameFusion(0.5, 0.9), still, hidden.repeat(4, 1))
    assert len(origin) == 10 and len([plan for plan in plans if plan.kept < plan.count]) == 1
    assert set(range(5)) <= set(origin.tolist())


def test_all_equal_tokens_and_duplicates():
    geometry, _ = clip_like(3, 4)
    origin, values, _ = final(FrameFusion(0.4, 0.6), geometry, torch.ones(12, WIDTH))
    assert 1 <= len(origin) < 12 and bool(values.isfinite().all())


@pytest.mark.parametrize("strict", [False, True])
def test_zero_vectors(strict):
    geometry, hidden = clip_like(3, 4)
    hidden[4:8] = 0.0
    origin, values, _ = final(FrameFusion(0.4, 0.6, strict=strict), geometry, hidden, layers=28)
    assert len(origin) >= 1 and bool(values.isfinite().all())


def test_one_frame_is_only_pruned():
    geometry, hidden = clip_like(1, 12)
    origin, _, plans = final(FrameFusion(0.5, 0.0), geometry, hidden)
    assert not any(plan.merges for plan in plans)
    assert 1 <= len(origin) < 12
    compare(FrameFusion(0.5, 0.0), geometry, hidden, layers=4)


def test_a_budget_that_cannot_be_met_keeps_one_token():
    geometry, hidden = clip_like(1, 12)
    origin, _, _ = final(FrameFusion(0.01, 1.0), geometry, hidden)
    assert len(origin) == 1


def test_half_precision_selects_in_full_precision():
    geometry, hidden = clip_like(5, 6)
    half = hidden.bfloat16()
    for (_, ours, *rest), (_, theirs, *others) in zip(
        drive(FrameFusion(0.4, 0.8), geometry, half, 2),
        drive(FrameFusion(0.4, 0.8), geometry, half.float(), 2),
        strict=True,
    ):
        assert torch.equal(ours.owner, theirs.owner)
        assert rest[2].dtype == torch.bfloat16
        torch.testing.assert_close(rest[2].float(), others[2], atol=2e-2, rtol=2e-2)
        break


def test_long_static_clips_count_right_in_half_precision():
    """Run lengths above 256 have no exact bfloat16."""
    geometry = Geometry.grid(301, 1, 1)
    values = torch.cat([torch.full((300, WIDTH), 1.0), torch.full((1, WIDTH), 302.0)]).bfloat16()
    _, plan, *_, merged, size = next(drive(FrameFusion(0.001, 0.5), geometry, values, 1))
    assert size.sum() == 301
    assert plan.kept == 1
    assert float(merged[0, 0]) == pytest.approx((300 + 302) / 301, rel=2**-8)


def test_the_same_input_gives_the_same_plans():
    geometry, hidden = clip_like(4, 6)
    method = FrameFusion(0.3, 0.8)
    for one, two in zip(drive(method, geometry, hidden, 4), drive(method, geometry, hidden, 4), strict=True):
        assert (one[1] is None) == (two[1] is None)
        assert torch.equal(one[3], two[3]) and torch.equal(one[4], two[4])


def test_cost_one_is_the_identity_at_every_point():
    geometry, hidden = clip_like(3, 4)
    points = [point for point, plan, *_ in drive(FrameFusion(1.0), geometry, hidden, 4) if plan.kept == plan.count]
    assert points == [before(0), *(after_attention(layer) for layer in range(4))]


@pytest.mark.parametrize(
    "options",
    [
        {"cost": 0.0},
        {"cost": -0.1},
        {"cost": 1.1},
        {"cost": float("nan")},
        {"similarity_lower_bound": 1.5},
        {"similarity_lower_bound": -1.5},
        {"ratio_lower_bound": -0.1},
        {"ratio_lower_bound": 1.1},
        {"query_rows": 0},
    ],
)
def test_options_out_of_range_are_refused(options):
    with pytest.raises(OptionError, match=next(iter(options))):
        FrameFusion(**options)


def test_the_method_is_configuration_only():
    method = FrameFusion()
    with pytest.raises(dataclasses.FrozenInstanceError):
        method.cost = 0.5
    assert FrameFusion(0.3) == FrameFusion(cost=0.3) and hash(FrameFusion()) == hash(FrameFusion())


@pytest.mark.parametrize(("published", "expected"), [(None, 0.4), (0.3, 0.3), (0.973, 0.4)])
def test_with_its_weight_more_is_merged(published, expected):
    family = dataclasses.replace(QWEN2_VL, similarity_lower_bound=published)
    assert FrameFusion(proportional_attention=True).for_family(family).similarity_lower_bound == expected
    assert FrameFusion().for_family(family).similarity_lower_bound == (published or 0.6)
    chosen = FrameFusion(similarity_lower_bound=0.9, proportional_attention=True)
    assert chosen.for_family(family).similarity_lower_bound == 0.9
