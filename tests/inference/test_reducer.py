"""Learned reducers on disk: what is written is what comes back, and nothing that does not fit gets in."""

from __future__ import annotations

import json
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import framefusion as ff
from framefusion.core.errors import CheckpointError, OptionError, UnsupportedPointError
from framefusion.core.learned import LearnedMethod
from framefusion.core.registry import family_of_config
from framefusion.engine.model.parts import find_parts
from framefusion.engine.model.shape import shape_of
from tests.support.cases import assert_near, every_family, inputs_of, model_of, reduced

CONFIG, WEIGHTS = "reducer_config.json", "reducer_model.safetensors"


def made_for(model, seed: int = 3, **options) -> LearnedMethod:
    parts = find_parts(model)
    method = ff.ATPLLaVA(layers=(1, 2), **options).untrained(shape_of(parts, family_of_config(parts.config)), seed)
    method.weights.module.eval()
    return method


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made_for(model_of("qwen2_vl"), keep=0.4).save(tmp_path / "atp")
    return tmp_path / "atp"


def test_what_is_saved_comes_back(folder):
    method, found = made_for(model_of("qwen2_vl"), keep=0.4), ff.load_reducer(folder)
    assert found.options() == method.options() and type(found) is ff.ATPLLaVA
    assert repr(found) == repr(method) and "weights" not in json.loads((folder / CONFIG).read_text())["options"]
    assert {path.name for path in folder.iterdir()} == {CONFIG, WEIGHTS}
    assert not found.weights.module.training
    found.save(folder)
    assert ff.load_reducer(folder).options() == method.options()


def test_other_numbers_are_another_method(folder):
    method = ff.load_reducer(folder)
    assert method == method.with_budget(0.4) and method != ff.load_reducer(folder)
    with torch.no_grad():
        other = ff.load_reducer(folder)
        other.weights.module.layers[0].spatial.bias += 1
    assert other.options() != method.options()


@every_family
def test_it_reduces_and_leaves_nothing_behind(family):
    model, inputs = model_of(family), inputs_of(family, "images", "text")
    options = {"max_new_tokens": 3, "do_sample": False}
    before = model.generate(**inputs, **options)
    types = getattr(model.config.get_text_config(decoder=True), "layer_types", None) or ["full_attention"]
    recurrent = types[0] == "linear_attention"
    refused = pytest.raises(UnsupportedPointError, match="recurrent") if recurrent else nullcontext()
    with refused, ff.reduce(model, made_for(model)) as reduction:
        model.generate(**inputs, **options)
    assert recurrent or reduction.report.kept_tokens < reduction.report.visual_tokens
    assert torch.equal(model.generate(**inputs, **options), before)


@torch.no_grad()
def test_a_batch_is_its_rows(folder):
    model, method = model_of("qwen2_vl"), ff.load_reducer(folder)
    together, _ = reduced(model, method, inputs_of("qwen2_vl", "full", "short"))
    for number, row in enumerate(("full", "short")):
        alone, _ = reduced(model, method, inputs_of("qwen2_vl", row))
        assert_near(together.logits[number, -1], alone.logits[0, -1])


def test_it_goes_with_methods_that_learn_nothing(folder):
    method = ff.load_reducer(folder)
    for chain in (ff.Chain(ff.Uniform(keep=0.5), method), ff.Chain(method, ff.FastV(keep=0.5, layer=3))):
        _, report = reduced(model_of("qwen2_vl"), chain, inputs_of("qwen2_vl", "full"))
        assert {step.method for step in report.last.steps} >= {"atp_llava"}
    assert method.options() in ff.Chain(ff.Uniform(), method).options()["methods"]


@pytest.mark.parametrize("wrap", [lambda method: method, lambda method: ff.Chain(ff.Uniform(), method)])
def test_a_model_of_another_shape_is_refused(folder, wrap):
    with pytest.raises(OptionError, match="family llava, not qwen2_vl") as caught:
        ff.reduce(model_of("llava"), wrap(ff.load_reducer(folder)))
    assert caught.value.hint
    with pytest.raises(OptionError, match="no weights"):
        ff.reduce(model_of("qwen2_vl"), wrap(ff.ATPLLaVA()))
    model_of("qwen2_vl")(**inputs_of("qwen2_vl", "text"))


def test_without_weights_there_is_nothing_to_save(tmp_path):
    with pytest.raises(OptionError, match="no weights"):
        ff.ATPLLaVA().save(tmp_path)
    assert not list(tmp_path.iterdir())


def changed(**parts):
    def damage(folder: Path) -> None:
        settings = json.loads((folder / CONFIG).read_text()) | parts
        (folder / CONFIG).write_text(json.dumps(settings))

    return damage


def of_model(**parts):
    def damage(folder: Path) -> None:
        changed(model=json.loads((folder / CONFIG).read_text())["model"] | parts)(folder)

    return damage


def weights(change):
    def damage(folder: Path) -> None:
        state = load_file(folder / WEIGHTS)
        change(state)
        save_file(state, folder / WEIGHTS)

    return damage


def cut(name, size):
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:size])


BIAS = "layers.0.spatial.bias"
DAMAGE = {
    "no config": lambda folder: (folder / CONFIG).unlink(),
    "no weights": lambda folder: (folder / WEIGHTS).unlink(),
    "config a folder": lambda folder: ((folder / CONFIG).unlink(), (folder / CONFIG).mkdir()),
    "config cut off": cut(CONFIG, 30),
    "config empty": cut(CONFIG, 0),
    "config a list": lambda folder: (folder / CONFIG).write_text("[]"),
    "config no text": lambda folder: (folder / CONFIG).write_bytes(b"\xff\xfe\x00"),
    "config endless": lambda folder: (folder / CONFIG).write_text(" " * (2**20 + 1)),
    "config nested": lambda folder: (folder / CONFIG).write_text("[" * 50_000),
    "weights cut off": cut(WEIGHTS, 100),
    "weights empty": cut(WEIGHTS, 0),
    "weights a pickle": lambda folder: torch.save({"a": torch.ones(2)}, folder / WEIGHTS),
    "another format": changed(format=2),
    "an unknown method": changed(method="atp"),
    "a method without weights": changed(method="fastv", options={}),
    "a method that is a number": changed(method=3),
    "a method that is code": changed(method="os:system"),
    "an unknown option": changed(options={"kept": 0.5}),
    "an option out of range": changed(options={"keep": 3.0}),
    "options a list": changed(options=[]),
    "no model": changed(model=None),
    "a model without family": changed(model={"layers": 4, "hidden": 32}),
    "a model too wide": of_model(hidden=10**12),
    "a model of no layers": of_model(layers=0),
    "a model of half a layer": of_model(layers=1.5),
    "a family that is a number": of_model(family=3),
    "a model of another width": of_model(hidden=999),
    "a weight too few": weights(lambda state: state.pop(BIAS)),
    "a weight too many": weights(lambda state: state.update(more=torch.ones(1))),
    "a weight of another size": weights(lambda state: state.update({BIAS: torch.ones(2)})),
    "a weight of whole numbers": weights(lambda state: state.update({BIAS: torch.ones(1, dtype=torch.int32)})),
    "a weight that is no number": weights(lambda state: state.update({BIAS: torch.tensor([float("nan")])})),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_what_is_damaged_or_foreign_is_refused_with_a_hint(folder, kind):
    DAMAGE[kind](folder)
    with pytest.raises(CheckpointError, match="cannot load the reducer") as caught:
        ff.load_reducer(folder)
    assert caught.value.why and caught.value.hint


def test_what_is_wrong_with_its_weights_is_said_at_once(folder):
    weights(lambda state: state.update({"more": torch.ones(1), BIAS: torch.ones(2)}))(folder)
    with pytest.raises(CheckpointError) as caught:
        ff.load_reducer(folder)
    assert "it holds 1 weight that nothing reads: more; 1 weight of another size: " in caught.value.why


@pytest.mark.parametrize("name", ["", "nothing/here", "a\0b", "x" * 5000, "framefusion/nothing", "framefusion/../tiny"])
def test_a_name_that_leads_nowhere_is_refused(name):
    with pytest.raises(CheckpointError, match="cannot load the reducer"):
        ff.load_reducer(name)


def test_other_layers_need_as_many_thresholds(folder):
    method = ff.load_reducer(folder)
    assert replace(method, layers=(1, 3)).layers == (1, 3)
    with pytest.raises(OptionError, match="thresholds for 2 layers, not for 3"):
        replace(method, layers=(1, 2, 3))


def test_trained_methods_are_listed_as_such():
    found = {facts["name"]: facts["trained"] for facts in ff.list_methods()}
    assert found["atp_llava"] is True and found["fastv"] is False
