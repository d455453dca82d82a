"""Stages that act in front of the projector: what reaches the decoder, against the stock projector by hand."""

from __future__ import annotations

import dataclasses
import gc
import types
import weakref
from functools import cache
from typing import ClassVar

import pytest
import torch
from transformers.modeling_outputs import BaseModelOutputWithPooling

import framefusion as ff
from framefusion.core.layout import PATCH, Geometry
from framefusion.core.method import IN_FRONT, Method, MethodFacts, VisionSignals, before
from framefusion.core.plan import Plan
from framefusion.core.stage import ProjectorStage
from framefusion.engine import context
from framefusion.methods.prumerge import PruMerge, PruMergePlus
from framefusion.testing.signals import make_signals
from tests.behaviour.test_undo import picture as everything_of
from tests.reference import prumerge as reference
from tests.support import naive_tower
from tests.support.tiny import build_model, moving_clip, prompt

NEW_TOKENS = 4
IMAGES = [moving_clip(1, seed=seed)[0] for seed in range(4)]
CLIP = moving_clip(4, seed=9)
CLOSE = {"rtol": 1e-4, "atol": 1e-5}
ROWS = {
    "llava": [
        [("image", IMAGES[0]), ("text", "and"), ("image", IMAGES[1]), ("text", "what is this?")],
        [("text", "hm"), ("image", IMAGES[2]), ("text", "?")],
    ],
    "internvl": [
        [("image", IMAGES[0]), ("text", "and"), ("video", CLIP), ("text", "what is this?")],
        [("text", "hm"), ("image", IMAGES[2]), ("text", "?")],
    ],
    "llava_onevision": [
        [("video", CLIP), ("text", "what is this?")],
        [("text", "hm"), ("video", CLIP[::-1].copy()), ("text", "?")],
    ],
    "qwen2_5_vl": [
        [("image", IMAGES[0]), ("text", "and"), ("video", CLIP), ("text", "what is this?")],
        [("text", "hm"), ("image", IMAGES[2]), ("text", "?")],
    ],
}
ROWS["qwen2_vl"] = ROWS["qwen3_vl"] = ROWS["qwen2_5_vl"]
IN_FRONT_OF = ("llava", "internvl")
ON_EMBEDDINGS = ("llava_onevision", "qwen2_vl", "qwen2_5_vl", "qwen3_vl")
METHODS = [PruMerge(keep=5), PruMerge(strict=True), PruMergePlus(keep=0.4), PruMergePlus(neighbours=3)]


@cache
def model(name):
    return build_model(name, attn="eager")


@dataclasses.dataclass(frozen=True)
class Halves(Method):
    """One or several stages that each keep the first half of every picture, its first token the mean of all."""

    stages_: int = 1
    fails: bool = False
    calls: list = dataclasses.field(default_factory=list)

    facts: ClassVar[MethodFacts] = MethodFacts("halves", "Halves", "", "", "", False, "geometry", True)

    def stages(self):
        return tuple(ProjectorStage(lambda signals, n=number: self.halve(signals, n)) for number in range(self.stages_))

    def halve(self, signals, number):
        if self.fails:
            raise Stop
        self.calls.append((number, signals.point, signals.hidden(), signals.vision().saliency(-1, False)))
        count = len(signals)
        every = torch.arange(count)
        owner = torch.where(every < -(-count // 2), every, 0)
        share = torch.full((count - 1,), 1 / count)
        own = torch.ones(-(-count // 2))
        own[0] = 1 / count
        return Plan(
            count, every[: -(-count // 2)], owner, torch.zeros(count - 1, dtype=torch.long), every[1:], share, own
        )


class Stop(Exception):
    """Raised by a stage."""


def first_layer_input(net, run):
    """(B, K, D) the states that enter layer 0, and what `run` returns."""
    seen = []
    norm = net.model.language_model.layers[0].input_layernorm
    handle = norm.register_forward_pre_hook(lambda module, args: seen.append(args[0].detach().clone()))
    try:
        with torch.no_grad():
            out = run()
    finally:
        handle.remove()
    return seen[0], out


def reduced_input(net, inputs, method):
    """Report of one forward pass, and per row the states of the surviving visual tokens that enter layer 0."""
    with ff.reduce(net, method) as reduction:
        states, _ = first_layer_input(net, lambda: net(**inputs))
    report, rows = reduction.report, []
    for number, (_, placement) in enumerate(report.layout.rows):
        columns = report.surviving_columns[number]
        visual = [place for place, column in enumerate(columns) if column in placement.columns.tolist()]
        rows.append(states[number][-len(columns) :][visual])
    return report, rows


def plan_of(report, row):
    (decision,) = [decision for decision in report.decisions if decision.row == row]
    return decision


@pytest.mark.parametrize("method", METHODS, ids=repr)
@pytest.mark.parametrize("name", IN_FRONT_OF)
def test_merged_features_pass_through_the_stock_projector(name, method):
    net, inputs = model(name), prompt(name, ROWS[name])
    with naive_tower.observed(net) as runs, torch.no_grad():
        net(**inputs)
    (run,) = runs
    report, rows = reduced_input(net, inputs, method)
    features, first = naive_tower.features_of(run), 0
    for number, states in enumerate(rows):
        decision = plan_of(report, number)
        assert decision.point == IN_FRONT and decision.plan.merges
        count = decision.plan.count // features[0].shape[0]
        merged = decision.plan.apply(torch.cat(features[first : first + count]))
        with torch.no_grad():
            torch.testing.assert_close(states, net.model.multi_modal_projector(merged[None])[0], **CLOSE)
        first += count
    assert first == len(features)


def naive_plans(net, name, inputs, layout, method):
    """Per row, the plan of every picture: decided from signals by hand. Yields (row, tokens, plan)."""
    with naive_tower.observed(net) as runs, torch.no_grad():
        net(**inputs)
    grouped, source = name.startswith("qwen"), "cls" if name in IN_FRONT_OF else "received"
    pictures = [naive_tower.pictures_of(run, -1) for run in runs]
    taken = [0 for _ in runs]
    for row, (geometry, placement) in enumerate(layout.rows):
        for clip, frame in torch.unique(torch.stack([geometry.clip, geometry.frame]), dim=1).T.tolist():
            inside = (geometry.clip == clip) & (geometry.frame == frame) & (geometry.kind == PATCH)
            kind = int(placement.video[inside][0]) if len(runs) > 1 else 0
            found = pictures[kind][taken[kind]]
            taken[kind] += 1
            count = int(inside.sum())
            score = naive_tower.as_tokens(found[f"{source}_headless"], count, grouped)
            keys = naive_tower.as_tokens(found["keys"][1 if source == "cls" else 0 :], count, grouped)
            vision = VisionSignals(source, lambda layer, headless, s=score: s, lambda layer, k=keys: k, None)
            signals = make_signals(Geometry.grid(1, 1, count), torch.zeros(count, 1), before(0), vision=vision)
            yield row, inside.nonzero().flatten(), method.decide(signals), score


@pytest.mark.parametrize("method", [PruMerge(keep=5), PruMergePlus(keep=0.4)], ids=repr)
@pytest.mark.parametrize("name", [*IN_FRONT_OF, *ON_EMBEDDINGS])
def test_every_family_makes_the_same_decision(name, method):
    net, inputs = model(name), prompt(name, ROWS[name])
    report, _ = reduced_input(net, inputs, method)
    assert all((d.point == IN_FRONT) == (name in IN_FRONT_OF) for d in report.decisions)
    survivors = [set() for _ in report.layout.rows]
    for row, tokens, plan, score in naive_plans(net, name, inputs, report.layout, method):
        survivors[row] |= set(tokens[plan.keep].tolist())
        count = round(method.keep * len(tokens)) if isinstance(method.keep, float) else method.keep
        choice = reference.sane_choice(score.tolist(), count, isinstance(method, PruMergePlus))
        assert set(choice) < set(plan.keep.tolist())
    for row, (geometry, _) in enumerate(report.layout.rows):
        newlines = set((geometry.kind != PATCH).nonzero().flatten().tolist())
        assert set(plan_of(report, row).plan.keep.tolist()) == survivors[row] | newlines


@pytest.mark.parametrize("name", ON_EMBEDDINGS)
def test_elsewhere_the_embeddings_are_merged(name):
    net, inputs = model(name), prompt(name, ROWS[name])
    dense, _ = first_layer_input(net, lambda: net(**inputs))
    report, rows = reduced_input(net, inputs, PruMerge(keep=5))
    for number, states in enumerate(rows):
        columns = report.layout.rows[number][1].columns
        torch.testing.assert_close(states, plan_of(report, number).plan.apply(dense[number][columns]), **CLOSE)


def test_images_in_front_of_the_projector_and_a_video_behind_it_in_one_prompt():
    """LLaVA-OneVision pools videos behind the projector and several images not at all."""
    name, method = "llava_onevision", PruMerge(keep=5)
    row = [("image", IMAGES[0]), ("text", ","), ("image", IMAGES[1]), ("text", "and"), ("video", CLIP), ("text", "?")]
    net, inputs = model(name), prompt(name, [row])
    with naive_tower.observed(net) as runs:
        dense, _ = first_layer_input(net, lambda: net(**inputs))
    report, (states,) = reduced_input(net, inputs, method)
    geometry, placement = report.layout.rows[0]
    assert report.last.visual_tokens == [2 * 65 + 2 * 32 + 1] and report.last.kept_tokens == [2 * 6 + 4 * 5 + 1]
    decision = plan_of(report, 0)
    assert decision.point == IN_FRONT
    video = placement.video[decision.plan.keep]
    behind = decision.plan.apply(dense[0][placement.columns])
    torch.testing.assert_close(states[video], behind[video], **CLOSE)
    spread = torch.zeros(len(geometry), runs[0].features.shape[-1])
    spread[(geometry.kind == PATCH) & ~placement.video] = torch.cat(list(runs[0].features))
    patches = (geometry.kind[decision.plan.keep] == PATCH) & ~video
    with torch.no_grad():
        merged = net.model.multi_modal_projector(decision.plan.apply(spread)[None])[0]
    torch.testing.assert_close(states[patches], merged[patches], **CLOSE)


@pytest.mark.parametrize("name", ["llava", "qwen2_5_vl"])
def test_a_second_feature_stage_sees_what_the_first_left(name):
    net, method = model(name), Halves(2)
    inputs = prompt(name, [[("image", IMAGES[0]), ("text", "?")]])
    total = reduced_input(net, inputs, Halves())[0].visual_tokens
    report, (states,) = reduced_input(net, inputs, method)
    assert report.kept_tokens == states.shape[0] == total // 4
    assert [number for number, *_ in method.calls] == [0, 1]
    (_, point, _, score), (_, then, hidden, left) = method.calls
    assert (point == IN_FRONT) == (name == "llava") and then == before(0)
    assert hidden.shape[0] == total // 2 and torch.equal(left, score[: total // 2])
    torch.testing.assert_close(states[0], hidden.mean(0), **CLOSE)
    torch.testing.assert_close(states[1:], hidden[1 : total // 4], **CLOSE)


def test_a_projector_called_by_name():
    net = build_model("llava")
    inputs = prompt("llava", ROWS["llava"])
    by_position, rows = reduced_input(net, inputs, PruMerge(keep=5))

    def get_image_features(self, pixel_values, **_):
        states = self.vision_tower(pixel_values, output_hidden_states=True).hidden_states[-2][:, 1:]
        return BaseModelOutputWithPooling(pooler_output=list(self.multi_modal_projector(image_features=states)))

    net.model.get_image_features = types.MethodType(get_image_features, net.model)
    by_name, same = reduced_input(net, inputs, PruMerge(keep=5))
    assert by_name.decisions[0].point == by_position.decisions[0].point == IN_FRONT
    assert all(torch.equal(one, other) for one, other in zip(rows, same, strict=True))


def answer(net, inputs, method, tokens=NEW_TOKENS, **options):
    with ff.reduce(net, method) as reduction, torch.no_grad():
        out = net.generate(**inputs, max_new_tokens=tokens, do_sample=False, **options)
    return out[:, inputs["input_ids"].shape[1] :].tolist(), reduction.report


FAMILIES = (*IN_FRONT_OF, "llava_onevision", "qwen2_5_vl", "qwen3_vl")


@pytest.mark.parametrize("name", FAMILIES)
def test_batches_beams_and_no_cache(name):
    net, method = model(name), PruMerge(keep=4)
    inputs = prompt(name, ROWS[name])
    both, report = answer(net, inputs, method)
    alone = [answer(net, prompt(name, [row]), method)[0][0] for row in ROWS[name]]
    assert both == alone
    assert answer(net, inputs, method, use_cache=False)[0] == both
    beams, wide = answer(net, inputs, method, num_beams=2)
    apart = [answer(net, prompt(name, [row]), method, num_beams=2)[0][0] for row in ROWS[name]]
    assert beams == apart
    assert sorted(wide.last.kept_tokens) == sorted(2 * report.last.kept_tokens)
    assert {decision.point for decision in wide.decisions} == {decision.point for decision in report.decisions}


@pytest.mark.parametrize("name", FAMILIES)
def test_prompts_in_a_row_do_not_meet(name):
    net, method = model(name), PruMerge(keep=4)
    prompts = [prompt(name, [row]) for row in reversed(ROWS[name])]
    fresh = [answer(net, inputs, method)[0] for inputs in prompts]
    with torch.no_grad(), ff.reduce(net, method):
        for inputs, expected in zip([*prompts, *prompts], [*fresh, *fresh], strict=True):
            net(**inputs)
            out = net.generate(**inputs, max_new_tokens=NEW_TOKENS, do_sample=False)
            assert out[:, inputs["input_ids"].shape[1] :].tolist() == expected
            assert not context.tower_runs() and context.tower() is None and context.forward() is None


@pytest.mark.parametrize("name", FAMILIES)
def test_what_a_stage_raises_leaves_nothing_behind(name):
    net = build_model(name)
    inputs = prompt(name, ROWS[name])
    with torch.no_grad():
        dense = net(**inputs).logits
        before_, runs = everything_of(net), (net, net.generate)
        for run in runs:
            with pytest.raises(Stop), ff.reduce(net, Halves(fails=True)):
                (net.generate if run is not net else net)(**inputs)
            assert not context.tower_runs() and context.tower() is None and context.forward() is None
        assert everything_of(net) == before_
        with ff.reduce(net, PruMerge(keep=4)) as reduction:
            net(**inputs)
            assert everything_of(net) != before_
        assert reduction.report.kept_fraction < 1
        assert everything_of(net) == before_
        assert torch.equal(net(**inputs).logits, dense)


def tower_states_alive(net, run):
    """How many outputs of the tower's linear layers are held when a decoder step begins, and when `run` is over."""
    seen, alive = [], []

    def note(module, args, output):
        seen.append(weakref.ref(output.untyped_storage()))

    def count(module=None, args=(), kwargs=None):
        if kwargs is None or kwargs["inputs_embeds"].shape[1] == 1:
            gc.collect()
            alive.append(sum(ref() is not None for ref in seen))

    tower = naive_tower.tower_of(net)
    handles = [m.register_forward_hook(note) for m in tower.modules() if isinstance(m, torch.nn.Linear)]
    handles.append(net.model.language_model.register_forward_pre_hook(count, with_kwargs=True))
    with torch.no_grad():
        run()
    count()
    for handle in handles:
        handle.remove()
    assert seen
    return alive


@pytest.mark.parametrize("name", FAMILIES)
def test_nothing_of_the_tower_outlives_the_prompt(name):
    """Checked while the reduction is active and its report alive; in `generate`, from the first decoder step on."""
    net, inputs = model(name), prompt(name, ROWS[name])
    runs = [lambda: net(**inputs), lambda: net.generate(**inputs, max_new_tokens=3, do_sample=False)]
    stock = [tower_states_alive(net, run) for run in runs]
    with ff.reduce(net, PruMerge(keep=4)) as reduction:
        assert [tower_states_alive(net, run) for run in runs] == stock
        assert reduction.report.kept_tokens > 0


@pytest.mark.parametrize("name", IN_FRONT_OF)
def test_gradients_reach_the_tower(name):
    net, inputs = build_model(name), prompt(name, ROWS[name])
    with ff.reduce(net, PruMerge(keep=5)):
        net(**inputs, labels=inputs["input_ids"]).loss.backward()
    for part in (net.model.multi_modal_projector, net.model.vision_tower):
        grads = [weight.grad for weight in part.parameters() if weight.grad is not None]
        assert grads and all(torch.isfinite(grad).all() for grad in grads) and any(grad.any() for grad in grads)
