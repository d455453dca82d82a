"""Attention sinks leave the scores of whatever method goes by attention."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

import framefusion as ff
from framefusion.cli.options import build_method
from framefusion.core.errors import OptionError
from framefusion.core.layout import Geometry, frame_numbers
from framefusion.core.method import before
from framefusion.core.ops.sinks import sink_scores, without_sinks
from framefusion.core.registry import family_of
from framefusion.testing.signals import make_signals, run_stage
from tests.support import looking
from tests.support.looking import row
from tests.support.tiny import moving_clip, prompt

GEOMETRIES = {
    "clip": Geometry.grid(5, 3, 4),
    "newlines": Geometry.grid(3, 2, 3, row_newline=True),
    "two clips": Geometry.cat([Geometry.grid(3, 2, 2), Geometry.grid(4, 3, 1).as_clip(1)]),
    "clip and picture": Geometry.cat([Geometry.grid(2, 2, 2), Geometry.grid(1, 3, 3).as_clip(1)]),
    "thinned": looking.thinned(Geometry.grid(4, 4, 4)),
    "token": Geometry.grid(1, 1, 1),
}


def reference(score, geometry, weight):
    """SToP in lists: mean over frames at a place, to the power 1.1, from 0 to 1, off the score."""
    found = score.tolist()
    places = list(zip(geometry.clip.tolist(), geometry.patch.tolist(), geometry.kind.tolist(), strict=True))
    for clip in set(geometry.clip.tolist()):
        own = [i for i, (c, _, kind) in enumerate(places) if c == clip and kind == 0]
        if len({int(geometry.frame[i]) for i in own}) < 2:
            continue
        lasting = {
            i: (sum(score[j].item() for j in own if places[j] == places[i]) / sum(places[j] == places[i] for j in own))
            ** 1.1
            for i in own
        }
        low, high = min(lasting.values()), max(lasting.values())
        most = max(score[i].item() for i in range(len(score)) if places[i][0] == clip)
        for i in own:
            found[i] -= weight * most * (lasting[i] - low) / max(high - low, 1e-30)
    return torch.tensor(found)


@pytest.mark.parametrize("weight", [0.0, 0.3, 2.0])
@pytest.mark.parametrize("name", list(GEOMETRIES))
def test_scores_are_the_reference(name, weight):
    geometry = GEOMETRIES[name]
    score = torch.rand(len(geometry), generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(without_sinks(score, geometry, weight), reference(score, geometry, weight))


def test_attention_that_is_equal_everywhere_has_no_sinks():
    geometry = GEOMETRIES["clip"]
    assert not sink_scores(torch.ones(60), geometry).any()
    assert not sink_scores(torch.zeros(60), geometry).any()


def spiked(geometry, always, once):
    """Attention that one place draws in all frames and another in one frame only."""
    score = torch.full((len(geometry),), 0.01)
    score[geometry.patch == always] = 0.5
    score[(geometry.patch == once) & (geometry.frame == 2)] = 0.2
    return score


def test_a_place_that_always_draws_attention_gives_way_to_one_that_does_once():
    geometry = GEOMETRIES["clip"]
    signals = make_signals(geometry, torch.zeros(60, 4), before(2), attention=spiked(geometry, 3, 7)[None])
    plain, method = ff.FastV(keep=5), ff.WithoutSinks(ff.FastV(keep=5), weight=1.0)
    once = 2 * 12 + 7
    assert once not in run_stage(plain, signals).keep.tolist()
    assert once in run_stage(method, signals).keep.tolist()
    assert (
        run_stage(ff.WithoutSinks(plain, weight=0.0), signals).keep.tolist() == run_stage(plain, signals).keep.tolist()
    )


BY_TOWER = [
    ff.FasterVLM(keep=1),
    ff.VisionZip(keep=2, contextual=1),
    ff.VisPruner(keep=1, important=1.0),
    ff.FastVID(keep=1, context=0.0),
    ff.FlashVID(keep=5, alpha=1.0),
    ff.AOT(keep=5, local=0.0, every=1),
]


@pytest.mark.parametrize("method", BY_TOWER, ids=lambda method: method.facts.name)
def test_every_method_that_goes_by_the_tower_follows(method):
    geometry = GEOMETRIES["clip"]
    score = spiked(geometry, 3, 7)
    seen = row(geometry)
    vision = replace(seen.vision(), saliency=lambda layer, headless: score)
    signals = replace(seen, vision=lambda: vision)
    once = 2 * 12 + 7
    assert once not in run_stage(method, signals).keep.tolist()
    assert once in run_stage(ff.WithoutSinks(method, weight=1.0), signals).keep.tolist()


@pytest.mark.parametrize("method", [ff.DivPrune(), ff.TemporalWard(), ff.Uniform(), ff.Chain(ff.EVS(), ff.DivPrune())])
def test_a_method_without_attention_is_refused(method):
    with pytest.raises(OptionError, match="no sinks"):
        ff.WithoutSinks(method)


@pytest.mark.parametrize("options", [{"method": 3}, {"method": None}, {"weight": -0.1}, {"weight": 11}])
def test_bad_options_raise(options):
    with pytest.raises(OptionError):
        ff.WithoutSinks(**{"method": ff.FastV(), **options})


def test_it_is_the_method_it_was_made_of_in_all_else():
    method, known = ff.WithoutSinks(ff.FastVID(proportional_attention=True)), family_of(None)
    assert method.weighs and not method.with_weight(False).weighs
    assert method.with_budget(0.3).method.keep == 0.3 and method.with_budget(0.3).weight == method.weight
    assert method.for_family(known) == method and method.notes(known) == method.method.notes(known)
    assert method.facts.name == "fastvid" and method.facts.title == "FastVID without sinks"
    assert method.stage_names() == ("fastvid",) and method.needs() == method.method.needs()
    assert method.options()["weight"] == 0.5


@pytest.mark.parametrize("name", ["fastv", "fastvid", "flashvid", "aot", "visionzip"])
def test_a_word_makes_it(name):
    found = build_method(name, 0.3, ["sinks=0.25"])
    assert isinstance(found, ff.WithoutSinks) and found.weight == 0.25 and found.method == build_method(name, 0.3, [])


@pytest.mark.parametrize("words", [("divprune", "sinks=0.5"), ("fastv", "sinks=much"), ("fastv", "sinks=-1")])
def test_a_word_that_makes_no_sense_is_refused(words):
    with pytest.raises(OptionError):
        build_method(words[0], None, [words[1]])


@pytest.mark.parametrize("family", ["llava_onevision", "qwen3_vl"])
@pytest.mark.parametrize("inner", [ff.FastV(keep=0.5, layer=1), ff.FlashVID(keep=0.5)], ids=lambda m: m.facts.name)
def test_in_a_model(family, inner):
    model = looking.tiny_model(family)
    inputs = prompt(family, [[("video", moving_clip(frames=4, change=1.0)), ("text", "what?")]])
    chained = ff.Chain(ff.TaylorFrames(keep=0.5), ff.WithoutSinks(inner))
    for method in (ff.WithoutSinks(inner), chained, ff.WithoutSinks(ff.Chain(ff.Uniform(keep=0.9), inner))):
        with torch.no_grad(), ff.reduce(model, method) as reduction:
            model.generate(**inputs, max_new_tokens=2, do_sample=False)
        assert 0 < reduction.report.kept_tokens < reduction.report.visual_tokens


def test_a_picture_stays_as_it_is():
    signals = row(Geometry.grid(1, 5, 5))
    plain, method = ff.FasterVLM(keep=0.3), ff.WithoutSinks(ff.FasterVLM(keep=0.3), weight=5.0)
    assert run_stage(plain, signals).keep.tolist() == run_stage(method, signals).keep.tolist()
    assert frame_numbers(signals.geometry).max() == 0
