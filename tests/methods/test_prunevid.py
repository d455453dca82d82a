"""PruneVid against its reference."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from framefusion.core.errors import OptionError
from framefusion.core.layout import Geometry
from framefusion.core.method import Setting, before
from framefusion.core.ops.clustering import density_clusters
from framefusion.core.ops.scenes import contiguous_segments
from framefusion.methods.prunevid import PruneVid
from tests.reference import prunevid as reference
from tests.support import driving
from tests.support.driving import CONTENTS, FAMILIES, LAYOUTS, WIDTH, content, plan_of, row

SCENES = {
    "long": Geometry.grid(12, 5, 4),
    "large": Geometry.grid(5, 6, 6),
    "thinned": driving.thinned(Geometry.grid(9, 5, 5)),
}


def film(geometry, seed=0, step=0.1, moving=0.5):
    """Three scenes in which some places stand nearly still and the others change from frame to frame."""
    draw = torch.Generator().manual_seed(seed)
    frames, patches = int(geometry.frame.max()) + 1, int(geometry.patch.max()) + 1
    scene = torch.arange(frames) * 3 // frames
    values = 2.0 * torch.randn(3, patches, WIDTH, generator=draw)[scene]
    change = torch.where(torch.rand(patches, generator=draw) < moving, 5.0, step)
    values = values + change[None, :, None] * torch.randn(frames, patches, WIDTH, generator=draw)
    values = values + 3.0 * torch.randn(3, 1, WIDTH, generator=draw)[scene]
    return values[geometry.frame, geometry.patch]


def compare(geometry, hidden, tau=0.8, keep=0.5):
    plan = plan_of(PruneVid(keep, tau), row(geometry, hidden))
    merged = reference.merge(hidden, geometry.frame.tolist(), geometry.patch.tolist(), tau, keep)
    assert plan.keep.tolist() == list(merged)
    torch.testing.assert_close(
        plan.apply(hidden.float()), torch.stack([value for value, _ in merged.values()]).float(), rtol=1e-4, atol=1e-5
    )
    assert float(plan.sizes(torch.ones(len(hidden))).sum()) == len(hidden)
    return plan


@pytest.mark.parametrize("layout", list(SCENES))
@pytest.mark.parametrize(("tau", "keep"), [(0.8, 0.5), (0.5, 0.2), (0.95, 0.9)])
def test_merge_is_the_reference(layout, tau, keep):
    for seed in range(2):
        plan = compare(SCENES[layout], film(SCENES[layout], seed), tau, keep)
        assert plan.merges


@pytest.mark.parametrize("kind", CONTENTS)
@pytest.mark.parametrize("layout", list(LAYOUTS))
def test_merge_of_duplicates_zeros_and_small_clips(layout, kind):
    compare(LAYOUTS[layout], content(kind, LAYOUTS[layout]))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_compared_in_float32(dtype):
    compare(SCENES["long"], film(SCENES["long"]).to(dtype))


@pytest.mark.parametrize("seed", range(3))
def test_the_question_is_the_reference(seed):
    geometry = Geometry.cat([SCENES["long"], Geometry.grid(1, 5, 4).as_clip(1)])
    hidden = torch.cat([film(SCENES["long"], seed), content("random", Geometry.grid(1, 5, 4), seed)])
    (stage,) = PruneVid(alpha=0.4).stages()
    plan, state = stage.step(stage.start(Setting(28, geometry)), row(geometry, hidden))
    left = geometry[plan.keep]
    signals = row(left, plan.apply(hidden), seed, before(11))
    asked, state = stage.step(state, signals)

    expected, offset = [], 0
    for clip in (0, 1):
        part = geometry.clip == clip
        merged = reference.merge(hidden[part], geometry.frame[part].tolist(), geometry.patch[part].tolist(), 0.8, 0.5)
        groups = [group for _, group in merged.values()]
        attention = signals.text_attention()[..., offset : offset + len(groups)]
        expected += [offset + token for token in reference.ask(attention, groups, 0.4)]
        offset += len(groups)
    assert asked.keep.tolist() == expected and not asked.merges
    assert stage.step(state, signals)[0] is None


def test_tokens_that_another_method_dropped_in_between_are_no_problem():
    geometry = SCENES["long"]
    (stage,) = PruneVid(alpha=0.5).stages()
    plan, state = stage.step(stage.start(Setting(28, geometry)), row(geometry, film(geometry)))
    left = geometry[plan.keep[::3]]
    asked, _ = stage.step(state, row(left, film(geometry)[plan.keep[::3]], point=before(11)))
    assert 0 < asked.kept < len(left)


def test_where_it_acts():
    def layers(depth, **options):
        (stage,) = PruneVid(**options).stages()
        return [point.layer for point in stage.points(depth)]

    assert layers(28)[:3] == [0, 11, 12]
    assert layers(4) == [0, 2, 3]
    assert layers(1) == [0]
    assert layers(6, layer=3) == [0, 4, 5]


def test_no_attention_and_no_question_leave_the_tokens_alone():
    geometry = SCENES["large"]
    (stage,) = PruneVid().stages()
    plan, state = stage.step(stage.start(Setting(28, geometry)), row(geometry, film(geometry)))
    left, hidden = geometry[plan.keep], plan.apply(film(geometry))
    later = row(left, hidden, point=before(11))
    assert stage.step(state, replace(later, has_attention=False))[0] is None
    silent, _ = stage.step(state, row(left, hidden, point=before(11), words=3, asking=0))
    assert silent.kept == len(left)


@pytest.mark.parametrize("seed", range(4))
def test_density_clusters_are_the_reference(seed):
    points = torch.randn(30, 5, generator=torch.Generator().manual_seed(seed)) + 10.0
    for count in (1, 4, 15, 30):
        centres, label = density_clusters(points, count)
        expected = reference.clusters(list(points.double()), count)
        assert (centres.tolist(), label.tolist()) == expected


def test_density_does_not_underflow():
    points = 1e3 * torch.randn(20, 4, generator=torch.Generator().manual_seed(0))
    near, _ = density_clusters(points / 1e3, 5)
    far, label = density_clusters(points, 5)
    assert len(far) == len(near) == 5 and label.unique().numel() == 5


@pytest.mark.parametrize("seed", range(30))
def test_segments_are_the_reference(seed):
    draw = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 4, (16,), generator=draw).repeat_interleave(1 + seed % 3).tolist()
    segments = contiguous_segments(labels)
    assert segments == reference.refine(labels)
    assert sorted(segments) == segments


def test_segments_by_hand():
    assert contiguous_segments([5]) == [0]
    assert contiguous_segments([0, 1, 0, 1]) == [0, 0, 0, 0]
    assert contiguous_segments([0, 0, 0, 1, 2, 2]) == [0, 0, 0, 0, 1, 1]
    assert contiguous_segments([0, 0, 1, 2, 2]) == [0, 0, 0, 1, 1]
    assert contiguous_segments([1, 2, 2, 0, 0, 0, 2]) == [0, 0, 0, 1, 1, 1, 1]


def test_contract():
    driving.assert_identity(PruneVid(1.0))
    driving.assert_clips_apart(PruneVid(0.5))
    driving.assert_newlines_follow(PruneVid(0.5))
    driving.assert_inputs_unchanged(PruneVid(0.5))


@pytest.mark.parametrize(
    "options", [{"keep": 0}, {"keep": 1.1}, {"tau": 1.5}, {"alpha": 0.0}, {"alpha": 1.5}, {"layer": -1}]
)
def test_bad_options_raise(options):
    with pytest.raises(OptionError):
        PruneVid(**options)


def test_a_layer_that_nothing_follows_raises():
    (stage,) = PruneVid(layer=3).stages()
    with pytest.raises(OptionError, match="layer 3"):
        stage.start(Setting(4, Geometry.grid(1, 2, 2)))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_batch_in_a_model(family):
    report = driving.in_a_model(PruneVid(tau=0.5), family).report
    read = [layer.visual_in for layer in report.layers]
    assert read[0] == read[1] > read[2] == read[3] == report.kept_tokens
    assert len(report.decisions) == 4
