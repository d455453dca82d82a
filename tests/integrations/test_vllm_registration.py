"""The plugin in vLLM's model registry: nothing changes without a setting, whatever release stands beside it."""

from __future__ import annotations

import subprocess
import sys
from functools import wraps
from types import ModuleType, SimpleNamespace

import pytest

from framefusion.core.errors import UnsupportedModelError
from framefusion.integrations.vllm import contract, register
from framefusion.integrations.vllm.families import FAMILIES, KEY, REDUCED

QWEN = "Qwen2_5_VLForConditionalGeneration"


class Registry:
    """As much of vLLM's registry as matters: names to classes, and two look-ups."""

    def __init__(self):
        self.models = {name: served.stock for name, served in FAMILIES.items()} | {"LlamaForCausalLM": "llama"}

    def register_model(self, model_arch, model_cls):
        self.models[model_arch] = model_cls

    def inspect_model_cls(self, architectures, model_config):
        names = [architectures] if isinstance(architectures, str) else architectures
        return self.models[names[0]], names[0]

    resolve_model_cls = inspect_model_cls


class Configuration:
    def __init__(self, architecture, settings=None):
        self.hf_config = SimpleNamespace(architectures=[architecture])
        self.model_impl = "auto"
        if settings is not None:
            setattr(self.hf_config, KEY, settings)


def beside(monkeypatch, release, registry, **names):
    """Register the plugin in a vLLM of `release` that has `registry`."""
    fake = ModuleType("vllm")
    if registry is not None:
        fake.ModelRegistry = registry
    monkeypatch.setitem(sys.modules, "vllm", fake)
    monkeypatch.setattr(contract, "installed_release", lambda: release)
    monkeypatch.setattr(contract, "check_names", lambda served: None)
    register()
    return registry


RELEASES = ["0.28.0", "0.30.0", "0.32.0", "0.33.1", "0.34.0", "1.0.0", "of unknown release"]


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("architecture", [*FAMILIES, "LlamaForCausalLM"])
def test_without_the_setting_a_stock_model_is_found(monkeypatch, release, architecture):
    before = dict(Registry().models)
    registry = beside(monkeypatch, release, Registry())
    for look_up in (registry.inspect_model_cls, registry.resolve_model_cls):
        given = Configuration(architecture)
        assert look_up([architecture], given) == (before[architecture], architecture)
        assert look_up(architecture, model_config=given) == (before[architecture], architecture)
        assert given.hf_config.architectures == [architecture]
    assert registry.models == before


@pytest.mark.parametrize("architecture", FAMILIES)
def test_with_the_setting_ours_is_found_and_the_stock_one_stays(monkeypatch, architecture):
    registry = beside(monkeypatch, "0.32.0", Registry())
    ours = FAMILIES[architecture].model
    asking = Configuration(architecture, {"keep": 0.3, "pictures": "divprune"})
    assert registry.inspect_model_cls([architecture], asking) == (ours, architecture)
    assert asking.hf_config.architectures == [REDUCED + architecture]
    assert registry.resolve_model_cls(asking.hf_config.architectures, model_config=asking)[0] == ours
    plain = Configuration(architecture)
    assert registry.resolve_model_cls([architecture], plain) == (FAMILIES[architecture].stock, architecture)


def test_a_worker_finds_ours_by_the_configuration_it_was_sent(monkeypatch):
    """Another process looks nothing up before it resolves the class."""
    registry = beside(monkeypatch, "0.32.0", Registry())
    sent = Configuration(REDUCED + QWEN, {"keep": 0.3})
    assert registry.resolve_model_cls([REDUCED + QWEN], sent)[0] == FAMILIES[QWEN].model


def test_the_language_model_inside_is_looked_up_as_it_is(monkeypatch):
    """Its configuration may carry the setting of the whole."""
    registry = beside(monkeypatch, "0.32.0", Registry())
    assert (
        registry.resolve_model_cls(["LlamaForCausalLM"], Configuration("LlamaForCausalLM", {"keep": 0.3}))[0] == "llama"
    )


@pytest.mark.parametrize("release", ["0.28.0", "0.34.0", "of unknown release"])
def test_with_the_setting_an_untested_release_is_refused(monkeypatch, release):
    registry = beside(monkeypatch, release, Registry())
    before = dict(registry.models)
    with pytest.raises(UnsupportedModelError, match=f"vLLM {release} is not supported"):
        registry.inspect_model_cls([QWEN], Configuration(QWEN, {"keep": 0.3}))
    assert registry.models == before


class Frozen:
    """A registry that takes no attributes, and shows none of those we use."""

    __slots__ = ()


class Raising:
    def __getattr__(self, name):
        raise RuntimeError(name)


ODD = {"none": lambda: None, "frozen": Frozen, "raising": Raising, "no look-up": lambda: SimpleNamespace(models=3)}


@pytest.mark.parametrize("registry", ODD)
@pytest.mark.parametrize("release", RELEASES)
def test_registering_never_raises(monkeypatch, registry, release):
    beside(monkeypatch, release, ODD[registry]())


def test_registering_twice_looks_up_once(monkeypatch):
    registry = beside(monkeypatch, "0.32.0", Registry())
    once = registry.inspect_model_cls
    register()
    assert registry.inspect_model_cls is once


def test_a_look_up_that_vllm_wraps_is_led_as_well(monkeypatch):
    """Otherwise the setting would be passed over in silence."""

    class Wrapped(Registry):
        @wraps(Registry.inspect_model_cls)
        def inspect_model_cls(self, *args, **kwargs):
            return Registry.inspect_model_cls(self, *args, **kwargs)

    registry = beside(monkeypatch, "0.32.0", Wrapped())
    ours = FAMILIES[QWEN].model
    assert registry.inspect_model_cls([QWEN], Configuration(QWEN, {"keep": 0.3})) == (ours, QWEN)
    once = registry.inspect_model_cls
    register()
    assert registry.inspect_model_cls is once


def test_registering_loads_nothing_heavy():
    """It is part of every start of vLLM, whoever's."""
    code = (
        "import sys, types; fake = types.ModuleType('vllm'); fake.ModelRegistry = types.SimpleNamespace();"
        "sys.modules['vllm'] = fake\n"
        "from framefusion.integrations.vllm import register; register()\n"
        "heavy = {'torch', 'transformers', 'numpy', 'av', 'framefusion.integrations.vllm.rules'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
