"""Learned reducers on disk: what is written is what comes back, and nothing that does not fit gets in."""

from __future__ import annotations

import json
from contextlib import nullcontext
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import framefusion as ff
from framefusion.core.adapter import Adapter
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
    "an unknown method": changed(method="atp_mini"),
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


@pytest.mark.parametrize(("bits", "off"), [(16, 1e-3), (8, 1e-2)])
def test_numbers_are_written_in_fewer_bits(folder, tmp_path, bits, off):
    method = ff.load_reducer(folder)
    method.save(tmp_path / "narrow", bits)
    found = ff.load_reducer(tmp_path / "narrow").weights.module.state_dict()
    for name, value in method.weights.module.state_dict().items():
        assert found[name].dtype == value.dtype == torch.float32
        largest = value.abs().amax(-1, keepdim=True) if value.ndim else value.abs()
        assert bool(((found[name] - value).abs() <= off * largest + 1e-6).all())
    sizes = [(place / WEIGHTS).stat().st_size for place in (folder, tmp_path / "narrow")]
    assert sizes[1] < sizes[0]
    # What was rounded once stays as it is.
    ff.load_reducer(tmp_path / "narrow").save(tmp_path / "again", bits)
    again = ff.load_reducer(tmp_path / "again").weights.module.state_dict()
    assert all(torch.allclose(again[name], value, rtol=1e-3) for name, value in found.items())
    with pytest.raises(OptionError, match="bits"):
        method.save(tmp_path / "other", 4)


NARROW = {
    "a scale too few": lambda state: state.pop("layers.0.embed.weight.row_scale"),
    "a scale of nothing": lambda state: state.update({"more.row_scale": torch.ones(1)}),
    "a scale of another size": lambda state: state.update({"layers.0.embed.weight.row_scale": torch.ones(3)}),
    "a scale that is no number": lambda state: state["layers.0.embed.weight.row_scale"].fill_(float("nan")),
}


@pytest.mark.parametrize("kind", NARROW)
def test_damaged_scales_are_refused(folder, kind):
    ff.load_reducer(folder).save(folder, 8)
    weights(NARROW[kind])(folder)
    with pytest.raises(CheckpointError, match="cannot load the reducer") as caught:
        ff.load_reducer(folder)
    assert caught.value.why and caught.value.hint


ADAPTED = "self_attn.q_proj"


def with_adapter(model) -> LearnedMethod:
    """Adds to the queries of two layers."""
    draw = torch.Generator().manual_seed(5)
    named = [(name, part) for name, part in model.named_modules() if name.endswith(ADAPTED)][1:3]
    factors = {
        name: (
            torch.randn(2, part.in_features, generator=draw),
            torch.randn(part.out_features, 2, generator=draw),
        )
        for name, part in named
    }
    return made_for(model).with_adapter(Adapter(factors, 0.5))


@torch.no_grad()
@pytest.mark.parametrize("wrap", [lambda method: method, lambda method: ff.Chain(ff.Uniform(1.0), method)])
def test_an_adapter_is_added_and_taken_out_again(tmp_path, wrap):
    model, inputs = model_of("qwen2_vl"), inputs_of("qwen2_vl", "full")
    method = with_adapter(model)
    method.save(tmp_path / "atp")
    loaded = ff.load_reducer(tmp_path / "atp")
    assert loaded.options() == method.options() != made_for(model).options()
    before = model(**inputs).logits
    with ff.reduce(model, wrap(loaded)):
        found = model(**inputs).logits
    assert torch.equal(model(**inputs).logits, before)
    merged = deepcopy(model)
    for name, (down, up) in method.weights.adapter.factors.items():
        merged.get_submodule(name).weight += 0.5 * up @ down
    with ff.reduce(merged, made_for(model)):
        assert_near(found, merged(**inputs).logits)
    with ff.reduce(model, made_for(model)):
        assert not torch.allclose(found, model(**inputs).logits)


def test_an_adapter_of_another_model_is_refused(tmp_path):
    model = model_of("qwen2_vl")
    method = with_adapter(model)
    (name, (down, up)), *_ = method.weights.adapter.factors.items()
    for factors, told in (({"nothing": (down, up)}, "nothing of that name"), ({name: (down[:, 1:], up)}, "to")):
        with pytest.raises(OptionError, match="the reducer adapts") as caught:
            ff.reduce(model, method.with_adapter(Adapter(factors)))
        assert told in caught.value.why
    model(**inputs_of("qwen2_vl", "text"))


HALVES = {
    "one factor alone": lambda state, name: state.pop(f"adapter/{name}/up"),
    "the other alone": lambda state, name: state.pop(f"adapter/{name}/down"),
    "factors that do not fit": lambda state, name: state.update({f"adapter/{name}/up": torch.ones(4, 3)}),
    "no number": lambda state, name: state[f"adapter/{name}/up"].fill_(float("inf")),
}


@pytest.mark.parametrize("kind", HALVES)
def test_damaged_adapters_are_refused(tmp_path, kind):
    method = with_adapter(model_of("qwen2_vl"))
    method.save(tmp_path)
    name = next(iter(method.weights.adapter.factors))
    weights(lambda state: HALVES[kind](state, name))(tmp_path)
    with pytest.raises(CheckpointError, match="cannot load the reducer") as caught:
        ff.load_reducer(tmp_path)
    assert caught.value.why and caught.value.hint


@pytest.mark.parametrize("scale", ["much", None, [], float("nan"), 1e400])
def test_a_scale_that_is_none_is_refused(tmp_path, scale):
    with_adapter(model_of("qwen2_vl")).save(tmp_path)
    changed(adapter_scale=scale)(tmp_path)
    with pytest.raises(CheckpointError, match="cannot load the reducer"):
        ff.load_reducer(tmp_path)


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
