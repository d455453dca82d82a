"""Several methods in one reduction: where each acts, what the next one sees, and what the report says."""

from __future__ import annotations

import json
from functools import cache

import pytest
import torch

import framefusion as ff
from framefusion.cli.app import run_app
from framefusion.core.errors import OptionError
from framefusion.core.method import IN_FRONT
from framefusion.core.plan import GONE, compose
from framefusion.core.registry import family_of
from framefusion.methods.fastv import FastV
from framefusion.methods.prumerge import PruMerge, PruMergePlus
from framefusion.methods.random import Random
from framefusion.methods.tome import ToMe
from framefusion.methods.visionzip import VisionZip
from tests.support.tiny import build_model, moving_clip, prompt

NEW_TOKENS = 4
CLIPS = [moving_clip(4, seed=seed) for seed in range(2)]
ROWS = [[("video", CLIPS[0]), ("text", "what happens here?")], [("text", "hm"), ("video", CLIPS[1]), ("text", "?")]]
FAMILIES = {"llava": 64, "internvl": 16, "llava_onevision": 16, "qwen2_5_vl": 16, "qwen3_vl": 16}
FRAMES = {"qwen2_5_vl": 2, "qwen3_vl": 2}
IN_FRONT_OF = ("llava", "internvl")


@cache
def model(name):
    return build_model(name)


def answer(name, method, rows=ROWS, **options):
    inputs = prompt(name, rows)
    with ff.reduce(model(name), method) as reduction, torch.no_grad():
        out = model(name).generate(**inputs, max_new_tokens=NEW_TOKENS, do_sample=False, **options)
    return out[:, inputs["input_ids"].shape[1] :].tolist(), reduction.report


def steps(report):
    return [(step.method, step.point, step.tokens_in, step.tokens_out) for step in report.steps]


@pytest.mark.parametrize("second", [FastV(keep=0.5, layer=2), Random(keep=0.5, layer=2)], ids=repr)
@pytest.mark.parametrize("name", FAMILIES)
def test_a_chain_acts_at_both_points(name, second):
    chain = ff.Chain(PruMerge(keep=4), second)
    both, report = answer(name, chain)
    frames, newlines = FRAMES.get(name, 4), int(name == "llava_onevision")
    total, between = frames * FAMILIES[name] + newlines, frames * 4 + newlines
    after = frames * 2 + newlines
    first = "in front of the projector" if name in IN_FRONT_OF else "before layer 0"
    assert steps(report) == [
        ("prumerge", first, 2 * total, 2 * between),
        (second.facts.name, "before layer 2", 2 * between, 2 * after),
    ]
    assert [layer.visual_in for layer in report.layers] == [2 * between] * 2 + [2 * after] * 2
    assert both == [answer(name, chain, [row])[0][0] for row in ROWS]
    assert answer(name, chain, use_cache=False)[0] == both


@pytest.mark.parametrize("name", FAMILIES)
def test_plans_compose(name):
    """What the second plan acts on is what the first one left, token by token."""
    chain = ff.Chain(PruMerge(keep=6), Random(keep=3, layer=1), Random(keep=0.5, layer=1, seed=5))
    _, report = answer(name, chain)
    for row, (geometry, placement) in enumerate(report.layout.rows):
        columns, owner = placement.columns, torch.arange(len(geometry))
        for decision in (decision for decision in report.decisions if decision.row == row):
            assert decision.columns.tolist() == columns.tolist()
            columns, owner = columns[decision.plan.keep], compose(owner, decision.plan.owner)
        alive = set(report.surviving_columns[row])
        assert [column for column in placement.columns.tolist() if column in alive] == columns.tolist()
        kept = (owner != GONE).nonzero().flatten()
        assert set(owner[kept].tolist()) == set(range(len(columns)))


@pytest.mark.parametrize("name", ["llava", "qwen3_vl"])
def test_a_chain_of_one_is_that_method(name):
    for method in (PruMerge(keep=4), FastV(keep=0.5, layer=1), ff.FrameFusion(cost=0.5)):
        (chained, inside), (alone, outside) = answer(name, ff.Chain(method)), answer(name, method)
        assert chained == alone and steps(inside) == steps(outside)
        assert inside.layers == outside.layers


def test_methods_with_a_point_in_common_act_in_the_order_of_the_chain():
    halves = [Random(keep=0.5, layer=1, seed=seed) for seed in range(3)]
    _, report = answer("qwen3_vl", ff.Chain(*halves), ROWS[:1])
    assert steps(report) == [("random", "before layer 1", 32 >> cut, 16 >> cut) for cut in range(3)]
    forth, back = (answer("qwen3_vl", ff.Chain(*order), ROWS[:1])[1] for order in (halves, halves[::-1]))
    assert forth.surviving_columns != back.surviving_columns


@pytest.mark.parametrize("name", ["llava", "qwen2_5_vl"])
def test_what_reduces_the_prompt_first_moves_the_next_behind_the_projector(name):
    _, report = answer(name, ff.Chain(Random(keep=0.5), PruMerge(keep=4)))
    frames, total = FRAMES.get(name, 4), FRAMES.get(name, 4) * FAMILIES[name] * 2
    (first, *_), (second, point, tokens_in, tokens_out) = steps(report)
    assert (first, second, point, tokens_in) == ("random", "prumerge", "before layer 0", total // 2)
    assert tokens_out == 2 * 4 * frames
    _, report = answer(name, ff.Chain(Random(keep=0.5, layer=1), PruMerge(keep=4)))
    assert [step.method for step in report.steps] == ["prumerge", "random"]
    assert (report.decisions[0].point == IN_FRONT) == (name == "llava")


@pytest.mark.parametrize("name", ["llava", "internvl", "qwen3_vl"])
def test_two_methods_in_front_of_the_projector(name):
    """The second acts on the embeddings of what the first left, with the tower's signals of those tokens."""
    chain = ff.Chain(PruMergePlus(keep=12), VisionZip(keep=5))
    both, report = answer(name, chain)
    frames = FRAMES.get(name, 4)
    assert [step.tokens_out for step in report.steps] == [2 * 12 * frames, 2 * 5 * frames]
    assert both == [answer(name, chain, [row])[0][0] for row in ROWS]


def test_inside_the_tower_and_then_inside_the_decoder():
    both, report = answer("llava", ff.Chain(ToMe(keep=0.5), FastV(keep=0.5, layer=1)))
    assert [(step.method, step.point) for step in report.steps] == [
        ("tome", "inside the vision tower"),
        ("fastv", "before layer 1"),
    ]
    assert report.steps[0].tokens_out == report.steps[1].tokens_in == 2 * report.steps[1].tokens_out
    assert both == [answer("llava", ff.Chain(ToMe(keep=0.5), FastV(keep=0.5, layer=1)), [row])[0][0] for row in ROWS]


@pytest.mark.parametrize("tower", [ToMe(keep=0.5), ff.IPCV(keep=0.5)], ids=["tome", "ipcv"])
@pytest.mark.parametrize("name", ["llava", "internvl", "qwen2_5_vl"])
def test_inside_the_tower_and_then_a_method_that_reads_its_signals(name, tower):
    chain = ff.Chain(tower, PruMerge(keep=4))
    both, report = answer(name, chain)
    assert report.steps[-1].tokens_out == 2 * 4 * FRAMES.get(name, 4)
    assert both == [answer(name, chain, [row])[0][0] for row in ROWS]


@pytest.mark.parametrize("name", FAMILIES)
def test_a_chain_of_identities_changes_no_bit(name):
    inputs = prompt(name, ROWS)
    chain = ff.Chain(PruMerge(keep=1.0), ff.FrameFusion(cost=1.0), FastV(keep=1.0))
    with torch.no_grad():
        dense = model(name)(**inputs).logits
        with ff.reduce(model(name), chain) as reduction:
            assert torch.equal(model(name)(**inputs).logits, dense)
    assert all(step.tokens_in == step.tokens_out for step in reduction.report.steps)
    assert "before layer" not in str(reduction.report)


def test_beams():
    chain = ff.Chain(PruMerge(keep=4), FastV(keep=0.5, layer=2))
    beams, _ = answer("llava", chain, num_beams=2)
    assert beams == [answer("llava", chain, [row], num_beams=2)[0][0] for row in ROWS]


@pytest.mark.parametrize("read", [ff.Report.to_dict, str, repr], ids=["to_dict", "str", "repr"])
def test_the_report_builds_its_parts_once(read, monkeypatch):
    from framefusion.inference import report

    net = build_model("qwen2_5_vl")
    with torch.no_grad(), ff.reduce(net, ff.FastV(keep=0.5, layer=2)) as reduction:
        net(**prompt("qwen2_5_vl", [[("video", moving_clip(4)), ("text", "what?")]]))
    built, build = [], report._prompt_report
    monkeypatch.setattr(report, "_prompt_report", lambda *parts: built.append(parts) or build(*parts))
    assert read(reduction.report) and len(built) == 1


def test_the_report_shows_each_step():
    _, report = answer("llava", ff.Chain(PruMerge(keep=4), FastV(keep=0.5, layer=2)), ROWS[:1])
    lines = str(report).splitlines()
    first = "PruMerge(keep=4, neighbours=32, strict=False, proportional_attention=False)"
    assert lines[0] == f"Chain({first}, FastV(keep=0.5, layer=2))"
    assert "prumerge  in front of the projector  256 -> 16" in lines
    assert "fastv     before layer 2             16 -> 8" in lines
    assert report.to_dict()["steps"] == [
        {"method": "prumerge", "point": "in front of the projector", "tokens_in": 256, "tokens_out": 16},
        {"method": "fastv", "point": "before layer 2", "tokens_in": 16, "tokens_out": 8},
    ]
    json.dumps(report.to_dict())


def test_options_left_open_and_notes_pass_through():
    chain = ff.Chain(PruMerge(), ff.Chain(ff.FrameFusion()))
    known, unknown = family_of("qwen2_vl"), family_of("llava")
    filled = chain.for_family(known)
    assert filled == ff.Chain(PruMerge(), ff.Chain(ff.FrameFusion().for_family(known)))
    assert chain.notes(known) == [] and len(ff.Chain(chain, chain).notes(unknown)) == 1
    assert chain.stage_names() == ("prumerge", "framefusion") and len(chain.stages()) == 2
    assert repr(chain) == f"Chain({PruMerge()!r}, Chain({ff.FrameFusion()!r}))"


def test_facts_are_those_of_its_methods():
    facts = ff.Chain(Random(), FastV()).facts
    assert facts.query_aware and facts.count == "geometry" and not facts.merges and facts.identity == {}
    facts = ff.Chain(Random(), PruMerge()).facts
    assert not facts.query_aware and facts.count == "data" and facts.merges


@pytest.mark.parametrize("methods", [(), (PruMerge,), (PruMerge(), None), (Random(), ToMe()), (ToMe(), ToMe())])
def test_bad_chains(methods):
    with pytest.raises(OptionError):
        ff.Chain(*methods)


def test_a_layer_too_deep_is_named_before_the_model_runs():
    with pytest.raises(ff.FrameFusionError, match="40"):
        answer("llava", ff.Chain(PruMerge(keep=4), FastV(layer=40)))


def test_methods_are_listed(capsys):
    assert run_app(["methods", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert json.loads(json.dumps(ff.list_methods())) == listed
    assert {"framefusion", "prumerge", "fastv"} <= {row["name"] for row in listed}


def test_every_method_is_at_hand_by_its_class():
    assert ff.PruMerge is PruMerge and ff.FastV is FastV and {"PruMerge", "Chain", "methods"} <= set(dir(ff))


@pytest.mark.parametrize(
    ("behind", "blend"),
    [((), True), ((ff.DivPrune(),), True), ((ff.TemporalWard(),), False), ((ff.DivPrune(), ff.FrameFusion()), False)],
)
def test_features_are_blended_unless_a_method_that_merges_follows(behind: tuple[ff.Method, ...], blend: bool) -> None:
    """Merging takes copies of one token at no loss; features between two encodings are others at every moment."""
    (stage, *_) = ff.Chain(ff.PixelDedup(), *behind).stages()
    assert stage.blend is blend
    for told in (True, False):
        (stage, *_) = ff.Chain(ff.PixelDedup(blend=told), *behind).stages()
        assert stage.blend is told
    (stage, *_) = ff.Chain(ff.PixelDedup(), *behind).with_weight(True).stages()
    assert stage.blend is blend
