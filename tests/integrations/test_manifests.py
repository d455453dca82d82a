"""What lmms-eval is told, and that telling it costs nothing."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType

import pytest

from framefusion.core.errors import UnknownNameError
from framefusion.integrations.lmms_eval import WRAPPERS, find, manifests
from tests.project.tree import ROOT

ASKED_FOR = {
    "qwen2_vl_framefusion",
    "qwen2_5_vl_framefusion",
    "qwen3_vl_framefusion",
    "llava_hf_framefusion",
    "llava_onevision_framefusion",
    "internvl_hf_framefusion",
    "internvl3_framefusion",
    "llava_vid_framefusion",
    "framefusion_hf",
}


@dataclass
class Manifest:
    model_id: str
    simple_class_path: str | None = None
    chat_class_path: str | None = None
    aliases: tuple[str, ...] = ()


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[Manifest]:
    registry = ModuleType("lmms_eval.models.registry_v2")
    registry.ModelManifest = Manifest
    for name in ("lmms_eval", "lmms_eval.models"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, registry.__name__, registry)
    return manifests()


def test_every_id_is_there(told: list[Manifest]):
    assert {name for one in told for name in (one.model_id, *one.aliases)} >= ASKED_FOR


def test_every_class_path_is_one_that_the_wrappers_make(told: list[Manifest]):
    wrappers = import_module("framefusion.integrations.lmms.wrappers")
    paths = [path for one in told for path in (one.chat_class_path, one.simple_class_path) if path]
    assert len(paths) > len(told)
    for path in paths:
        module, _, name = path.rpartition(".")
        assert module == wrappers.__name__ and name in wrappers._BASES


def test_no_id_hides_one_of_lmms_eval(told: list[Manifest]):
    builtin = {wrapper.builtin for wrapper in WRAPPERS if not wrapper.builtin.startswith("framefusion")}
    assert not builtin & {name for one in told for name in (one.model_id, *one.aliases)}


def test_the_package_declares_the_entry_point():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["entry-points"]["lmms_eval.models"] == {
        "framefusion": "framefusion.integrations.lmms_eval:manifests"
    }
    assert any(package.startswith("lmms-eval") for package in project["optional-dependencies"]["lmms"])


def test_the_entry_point_is_import_light():
    code = "import framefusion.integrations.lmms_eval, json, sys; print(json.dumps(list(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "transformers", "numpy", "av", "lmms_eval"} & set(json.loads(done.stdout))


@pytest.mark.parametrize(
    ("asked", "builtin", "wrapper"),
    [
        ("qwen3_vl", "qwen3_vl", "qwen3_vl"),
        ("qwen3_vl_framefusion", "qwen3_vl", "qwen3_vl"),
        ("llava_vid", "llava_vid", "framefusion_hf"),
        ("internvl3", "internvl3", "internvl_hf"),
        ("framefusion_hf", "framefusion_hf", "framefusion_hf"),
    ],
)
def test_find_takes_either_id(asked: str, builtin: str, wrapper: str):
    found, name = find(asked)
    assert (found.builtin, name) == (wrapper, builtin)


def test_an_unknown_model_is_refused_with_the_known_ones():
    with pytest.raises(UnknownNameError, match="qwen2_5_vl"):
        find("llava_med")


@dataclass
class OlderManifest:
    model_id: str


@pytest.mark.parametrize("names", [{}, {"ModelManifest": OlderManifest}, {"ModelManifest": 3}])
def test_another_release_gets_none_and_goes_on(monkeypatch: pytest.MonkeyPatch, names: dict):
    registry = ModuleType("lmms_eval.models.registry_v2")
    vars(registry).update(names)
    for name in ("lmms_eval", "lmms_eval.models"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, registry.__name__, registry)
    assert manifests() == []
