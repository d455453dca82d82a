"""Plugins of other packages that cannot be loaded: the commands that name them say so, all others go on."""

from __future__ import annotations

import json
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from framefusion.cli.app import run_app
from framefusion.cli.options import build_listed
from framefusion.core import registry
from framefusion.core.errors import OptionError, PluginError

METHODS, FAMILIES, REDUCERS = "framefusion.methods", "framefusion.models", "framefusion.reducers"
BROKEN = {
    "raises": "raising_plugin:Method",
    "leaves": "leaving_plugin:Method",
    "misses": "no_such_module:Method",
    "lacks": "json:Method",
    "is_a_function": "json:dumps",
    "is_a_class": "json:JSONDecoder",
}


@pytest.fixture(autouse=True)
def plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "raising_plugin.py").write_text("raise RuntimeError('no \\x1b[31m[/red] good')")
    (tmp_path / "leaving_plugin.py").write_text("import framefusion.no_longer_there")
    monkeypatch.syspath_prepend(str(tmp_path))
    known = {
        METHODS: [EntryPoint(name, value, METHODS) for name, value in BROKEN.items()],
        FAMILIES: [EntryPoint(name, value, FAMILIES) for name, value in BROKEN.items()],
        REDUCERS: [EntryPoint(name, value, REDUCERS) for name, value in BROKEN.items()],
    }
    known[METHODS].append(EntryPoint("works", "framefusion.methods.random:Random", METHODS))
    monkeypatch.setattr(registry, "entry_points", lambda group: known[group])
    for one in (registry.methods, registry.families, registry.learned):
        monkeypatch.setattr(one, "broken", {})


@pytest.mark.parametrize("name", BROKEN)
def test_one_error_where_it_is_named(name: str) -> None:
    for one in (registry.methods, registry.families, registry.learned):
        with pytest.raises(PluginError, match=f"`{name}`") as error:
            one.load(name)
        assert error.value.why and error.value.hint
    with pytest.raises(PluginError):
        registry.family_of(name)


@pytest.mark.parametrize("name", BROKEN)
@pytest.mark.parametrize(
    "words",
    [["run", "no.mp4", "what?", "--method", "{}"], ["evaluate", "--compare", "{}"], ["study", "--methods", "{}"]],
)
def test_commands_say_it_in_one_line(name: str, words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run_app([word.format(name) for word in words]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(":")[0] for line in lines] == ["error", "hint"] and f"`{name}`" in lines[0]


@pytest.mark.parametrize(("command", "known"), [("methods", "fastv"), ("methods", "works"), ("models", "qwen2_5_vl")])
def test_lists_hold_what_works(command: str, known: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_app([command, "--json"]) == 0
    seen = capsys.readouterr()
    names = {row["name"] for row in json.loads(seen.out)}
    assert (known in names or known == "works") and not names & set(BROKEN)
    assert all(f"`{name}`" in seen.err for name in BROKEN) and "\x1b" not in seen.err


def test_lists_of_methods_take_classes_by_their_place_as_well() -> None:
    reference = "framefusion.methods.fastv:FastV"
    found = build_listed(f"random,{reference},{reference}:layer=3:keep=0.5,fastv:layer=4")
    assert [one.facts.name for one in found] == ["random", "fastv", "fastv", "fastv"]
    assert [one.options()["layer"] for one in found[1:]] == [2, 3, 4]
    with pytest.raises(OptionError, match="no setting"):
        build_listed("fastv:layer")
    with pytest.raises(PluginError, match="nowhere:Class"):
        build_listed("nowhere:Class:keep=0.5")


def test_names_of_the_package_are_found_without_looking_for_plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def looked_for(group: str) -> list[EntryPoint]:
        asked.append(group)
        return []

    monkeypatch.setattr(registry, "entry_points", looked_for)
    assert registry.configure("fastv", {"keep": 0.5}).facts.name == registry.method("fastv").facts.name
    assert registry.method("vqtoken").facts.title == "VQToken"
    assert "fastv" in registry.methods and registry.family_of("qwen2_5_vl").name == "qwen2_5_vl"
    assert asked == []
    assert "nobodys" not in registry.methods and asked
