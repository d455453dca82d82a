"""A release of transformers that moved what a reduction reads is refused by name; a newer one is announced once."""

from __future__ import annotations

import inspect
import warnings

import pytest
import transformers

import framefusion as ff
from framefusion.core.errors import UnsupportedModelError, UnsupportedReleaseError
from framefusion.engine.model import cache_names, releases
from framefusion.engine.model.cache_names import CACHE_NAMES, cache_name
from tests.behaviour.support import families, identity, inputs, model

NEW = "kept_states"


def renaming(module, old, new=NEW):
    """Let `forward` of the module's class declare and accept `new` instead of `old`, as a later release might."""
    forward = type(module).forward

    def renamed(self, *args, **kwargs):
        if new in kwargs:
            kwargs[old] = kwargs.pop(new)
        return forward(self, *args, **kwargs)

    parameters = inspect.signature(forward).parameters
    assert old in parameters
    renamed.__signature__ = inspect.Signature(
        [p.replace(name=new) if name == old else p for name, p in parameters.items()]
    )
    return renamed


def parts(net):
    decoder = net.get_decoder()
    layer = decoder.layers[-1]
    return {"decoder": decoder, "layer": layer, "attention": layer.self_attn, "model": net}


@families("qwen2_5_vl", "llava_onevision")
@pytest.mark.parametrize(
    ("part", "argument"),
    [
        ("decoder", "cache"),
        ("decoder", "attention_mask"),
        ("decoder", "position_ids"),
        ("layer", "cache"),
        ("layer", "hidden_states"),
        ("layer", "attention_mask"),
        ("layer", "position_embeddings"),
        ("attention", "cache"),
        ("attention", "attention_mask"),
        ("attention", "position_embeddings"),
        ("model", "input_ids"),
        ("model", "labels"),
        ("model", "logits_to_keep"),
    ],
)
def test_a_renamed_input_is_named_before_anything_runs(monkeypatch, name, part, argument):
    net = model(name)
    module = parts(net)[part]
    argument = cache_name() if argument == "cache" else argument
    monkeypatch.setattr(type(module), "forward", renaming(module, argument))
    with pytest.raises(UnsupportedReleaseError, match=f"{type(module).__name__}.*{NEW}"):
        ff.reduce(net, identity())
    monkeypatch.undo()
    with ff.reduce(net, identity()):
        net(**inputs(name))


@pytest.mark.parametrize(
    ("part", "argument", "new"),
    [
        ("decoder", "deepstack_visual_embeds", "deep_features"),
        ("decoder", "visual_pos_masks", "visual_places"),
        ("model", "image_grid_thw", "image_grid"),
        ("model", "video_grid_thw", "video_grid"),
    ],
)
def test_renamed_sizes_and_planes_are_named(monkeypatch, part, argument, new):
    """They would be looked for in vain: planes are added at full length, and a clip becomes one still."""
    net = model("qwen3_vl")
    module = parts(net)[part]
    monkeypatch.setattr(type(module), "forward", renaming(module, argument, new))
    with pytest.raises(UnsupportedReleaseError, match=f"{type(module).__name__}.*{new}"):
        ff.reduce(net, identity())


@pytest.mark.parametrize(
    "left", [("last_hidden_state", "hidden_states", NEW), ("last_hidden_state", cache_name(), NEW)]
)
def test_a_renamed_field_of_the_output_is_refused(monkeypatch, left):
    monkeypatch.setattr(releases, "_output_fields", lambda: left)
    with pytest.raises(UnsupportedReleaseError, match=NEW):
        ff.reduce(model("qwen2_5_vl"), identity())


@pytest.mark.parametrize("method", releases.CACHE_METHODS)
def test_a_renamed_method_of_the_cache_is_refused(monkeypatch, method):
    monkeypatch.setattr(releases, "_cache_layer_methods", lambda: set(releases.CACHE_METHODS) - {method})
    with pytest.raises(UnsupportedReleaseError, match=method):
        ff.reduce(model("qwen2_5_vl"), identity())


def test_a_cache_that_slips_through_keywords_is_refused_at_the_first_call(monkeypatch):
    """Code that passes everything on as keywords shows no names; there the cache itself is recognised."""
    net = model("qwen2_5_vl")
    layer = net.get_decoder().layers[0]
    forward = type(layer).forward

    def keywords(self, hidden_states, **kwargs):
        kwargs[cache_name()] = kwargs.pop(NEW, None)
        return forward(self, hidden_states, **kwargs)

    class Calling(type(layer)):
        def __call__(self, hidden_states, **kwargs):
            kwargs[NEW] = kwargs.pop(cache_name(), None)
            return super().__call__(hidden_states, **kwargs)

    Calling.forward = keywords
    for one in net.get_decoder().layers:
        monkeypatch.setattr(one, "__class__", Calling)
    with ff.reduce(net, identity()), pytest.raises(UnsupportedReleaseError, match=NEW):
        net(**inputs("qwen2_5_vl"), use_cache=True)


@pytest.fixture
def unwarned():
    releases._warn_above_tested_range.cache_clear()
    yield
    releases._warn_above_tested_range.cache_clear()


def reduced_once():
    with ff.reduce(model("qwen2_5_vl"), identity()):
        pass


@pytest.mark.parametrize("version", ["5.25.0.dev0", "5.31.2", "6.0.0"])
def test_a_newer_release_is_announced_once_and_at_the_user_s_line(monkeypatch, unwarned, version):
    monkeypatch.setattr(releases, "_installed", lambda: version)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        reduced_once()
        reduced_once()
    ours = [one for one in seen if "framefusion" in str(one.message)]
    assert len(ours) == 1 and version in str(ours[0].message) and "\n" not in str(ours[0].message)
    assert ours[0].filename == __file__


@pytest.mark.parametrize("version", ["5.17.0", "5.20.3", "5.24.1"])
def test_a_tested_release_is_not(monkeypatch, unwarned, version):
    monkeypatch.setattr(releases, "_installed", lambda: version)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        reduced_once()


def test_the_error_is_one_of_unsupported_models():
    assert issubclass(UnsupportedReleaseError, UnsupportedModelError)


def test_the_name_of_the_cache_is_the_installed_release_s():
    assert cache_name() in CACHE_NAMES
    expected = "cache" if releases._minor(transformers.__version__) >= (5, 24) else "past_key_values"
    assert cache_names.cache_name() == expected
