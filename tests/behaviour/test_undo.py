"""Leaving a reduction leaves nothing behind, however it ends."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from framefusion.core.errors import AlreadyReducedError
from framefusion.engine import context
from framefusion.engine.model.cache_names import cache_of
from framefusion.inference.reduction import reduce_clips
from framefusion.methods.framefusion import Cascade
from tests.behaviour.support import answer, every_family, families, inputs, method, model
from tests.support.tiny import build_model

HOOKS = [name for name in vars(torch.nn.Module()) if name.endswith("_hooks") or "hooks_" in name]


class Stop(Exception):
    """Raised by the tests inside a model."""


def picture(net):
    """Everything a reduction might touch: attributes, hooks, configuration, the registries of transformers."""
    modules = {
        path: (
            {key: id(value) for key, value in vars(module).items() if key not in HOOKS and key != "rope_deltas"},
            {name: [(key, id(hook)) for key, hook in vars(module)[name].items()] for name in HOOKS},
        )
        for path, module in net.named_modules()
    }
    configs = {id(module.config): module.config for module in net.modules() if hasattr(module, "config")}
    settings = {number: {key: repr(value) for key, value in vars(config).items()} for number, config in configs.items()}
    registries = [
        {key: id(value) for key, value in registry._global_mapping.items()}
        for registry in (ALL_ATTENTION_FUNCTIONS, ALL_MASK_ATTENTION_FUNCTIONS)
    ]
    return modules, settings, registries, repr(net.generation_config)


@torch.no_grad()
def outputs(net, name):
    return net(**inputs(name)).logits, answer(net, inputs(name), 4)


def assert_same(net, name, before, seen):
    assert picture(net) == before
    assert all(torch.equal(now, then) for now, then in zip(outputs(net, name), seen, strict=True))
    assert context.forward() is None


@every_family
@pytest.mark.parametrize("attn", ["sdpa", "eager"])
def test_nothing_is_left(name, attn):
    net = model(name, attn=attn)
    seen, before = outputs(net, name), picture(net)
    with reduce_clips(net, method(name)):
        assert picture(net) != before
        outputs(net, name)
    assert_same(net, name, before, seen)


def fail(*args, **kwargs):
    raise Stop


def break_layer(net, patch):
    patch.setattr(net.get_decoder().layers[2].mlp, "forward", fail)


def break_attention(net, patch):
    attentions = [child for child in net.get_decoder().layers[1].children() if hasattr(child, "layer_idx")]
    patch.setattr(attentions[0], "forward", fail)


def break_vision(net, patch):
    tower = next(m for path, m in net.named_modules() if path.endswith(("visual", "vision_tower", "vision_model")))
    patch.setattr(tower, "forward", fail)


def break_stage(net, patch):
    patch.setattr(Cascade, "step", fail)


def break_head(net, patch):
    patch.setattr(net.get_output_embeddings(), "forward", fail)


BREAKS = [break_layer, break_attention, break_vision, break_stage, break_head]


@every_family
@pytest.mark.parametrize("broken", BREAKS, ids=lambda f: f.__name__)
def test_nothing_is_left_after_an_exception(name, broken):
    net = model(name)
    seen, before = outputs(net, name), picture(net)
    for act in (lambda: net(**inputs(name)), lambda: answer(net, inputs(name))):
        with pytest.raises(Stop), reduce_clips(net, method(name)), pytest.MonkeyPatch.context() as patch:
            broken(net, patch)
            act()
        assert_same(net, name, before, seen)


@families("qwen2_5_vl", "llava_onevision", "qwen3_5")
@pytest.mark.parametrize("broken", BREAKS, ids=lambda f: f.__name__)
def test_a_reduction_goes_on_after_an_exception(name, broken):
    net = model(name)
    with reduce_clips(net, method(name)):
        expected = outputs(net, name)
        for act in (lambda: net(**inputs(name)), lambda: answer(net, inputs(name))):
            with pytest.raises(Stop), pytest.MonkeyPatch.context() as patch:
                broken(net, patch)
                act()
            assert all(torch.equal(a, b) for a, b in zip(outputs(net, name), expected, strict=True))


@every_family
def test_nothing_is_left_after_a_failed_start(name, monkeypatch):
    net = model(name)
    seen, before = outputs(net, name), picture(net)
    last = net.get_decoder().layers[-1]
    with monkeypatch.context() as patch:
        patch.setattr(last, "register_forward_hook", fail)
        with pytest.raises(Stop):
            reduce_clips(net, method(name))
    with monkeypatch.context() as patch:
        patch.setattr("framefusion.engine.attention_observer.probe", fail)
        with pytest.raises(Stop):
            reduce_clips(net, method(name))
    assert_same(net, name, before, seen)
    with reduce_clips(net, method(name)):
        pass


@families("qwen2_5_vl")
def test_removing_twice(name):
    net = model(name)
    before = picture(net)
    reduction = reduce_clips(net, method(name))
    reduction.remove()
    with reduce_clips(net, method(name)) as later:
        reduction.remove()
        assert later.active and not reduction.active
        outputs(net, name)
    assert later.report.prompts
    assert picture(net) == before


@families("qwen2_5_vl")
def test_an_own_generate_of_the_instance_comes_back(name):
    net = build_model(name)
    own = net.generate
    net.generate = own
    with reduce_clips(net, method(name)):
        answer(net, inputs(name), 2)
    assert vars(net)["generate"] is own


@families("qwen2_5_vl", "qwen3_vl", "gemma3")
@pytest.mark.parametrize("grad", [False, True])
def test_nothing_stays_alive(name, grad):
    net = model(name)
    with torch.set_grad_enabled(grad), reduce_clips(net, method(name)) as reduction:
        output = net(**inputs(name), use_cache=True)
        engine, call = weakref.ref(reduction._engine), weakref.ref(reduction.report._seen)
        cache = weakref.ref(cache_of(output))
        keys = weakref.ref(cache_of(output).layers[-1].keys)
    handle = weakref.ref(reduction)
    del output, reduction
    gc.collect()
    assert [reference() for reference in (engine, call, cache, keys, handle)] == [None] * 5


@families("qwen2_5_vl", "gemma3")
def test_the_report_keeps_no_cache_alive(name):
    net = model(name)
    with torch.no_grad(), reduce_clips(net, method(name)) as reduction:
        output = net(**inputs(name), use_cache=True)
        keys = weakref.ref(cache_of(output).layers[-1].keys)
        del output
        gc.collect()
        assert keys() is None
        assert reduction.report.kv_bytes


@families("qwen2_5_vl", "qwen3_vl", "qwen3_5", "gemma3")
@pytest.mark.parametrize("grad", [False, True])
def test_a_report_that_is_kept_frees_the_model(name, grad):
    net = build_model(name)
    with torch.set_grad_enabled(grad), reduce_clips(net, method(name)) as reduction:
        net(**inputs(name))
        answer(net, inputs(name), 2)
    kept = [reduction, reduction.report, reduction.report.decisions, reduction.report.last, reduction.report.layout]
    gone = [weakref.ref(net), *(weakref.ref(module) for module in net.modules())]
    gone += [weakref.ref(weight) for weight in net.parameters()]
    del net
    gc.collect()
    assert not any(reference() is not None for reference in gone)
    assert kept[1].cost < 1 and kept[1].surviving_columns and kept[1].prefill_ms and str(kept[1])


@families("qwen2_5_vl", "smolvlm")
def test_a_reduction_nobody_holds_goes_on_with_the_model(name):
    """It can no longer be removed, but it must not be applied twice, and it dies with the model."""
    net = build_model(name)
    with reduce_clips(net, method(name)):
        expected = outputs(net, name)
    reduce_clips(net, method(name))
    gc.collect()
    assert all(torch.equal(a, b) for a, b in zip(outputs(net, name), expected, strict=True))
    with pytest.raises(AlreadyReducedError):
        reduce_clips(net, method(name))
    dead = weakref.ref(net)
    del net
    gc.collect()
    assert dead() is None


@families("qwen2_5_vl")
def test_a_checkpoint_saved_inside_is_the_models_own(name, tmp_path):
    net = model(name)
    net.save_pretrained(tmp_path / "before")
    with reduce_clips(net, method(name)):
        net.save_pretrained(tmp_path / "inside")
    for file in (tmp_path / "before").iterdir():
        assert file.read_bytes() == (tmp_path / "inside" / file.name).read_bytes()
