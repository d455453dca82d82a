"""Two halves: compared question by question, and never run twice."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from framefusion.cli.app import run_app
from framefusion.core.errors import HarnessError, UnknownNameError
from framefusion.inference.quantization.precision import Precision
from framefusion.integrations.lmms import harness as room
from framefusion.integrations.lmms.compare import comparison, run_pair
from framefusion.integrations.lmms.harness import Request
from tests.integrations.stand_in import Harness, left

METHOD = {"method": "framefusion", "cost": 0.3}


def test_questions_are_paired_by_their_content():
    dense, reduced = left("a", [1, 1, 0, 1], 1.0, 90.0), left("a", [1, 0, 0, 1], 0.3, 30.0)
    reduced["samples"]["a"].reverse()
    reduced["samples"]["a"][0]["doc_hash"] = "another question"
    found = comparison({"a": dense}, {"a": reduced})
    (row,) = found["tasks"]
    assert (row["dense"], row["reduced"]) == (0.75, 0.5)
    assert (row["paired"]["n"], row["paired"]["worse"], row["unpaired"]) == (3, 1, 1)
    assert found["prefill_ratio"] == 3.0 and found["all"] is None


def test_several_tasks_are_pooled_and_means_weighted_by_prompts():
    dense = {"a": left("a", [1, 1], 1.0, 10.0), "b": left("b", [1] * 6, 1.0, 10.0)}
    reduced = {"a": left("a", [0, 1], 0.1, 10.0), "b": left("b", [1] * 6, 0.5, 2.0)}
    found = comparison(dense, reduced)
    assert [row["task"] for row in found["tasks"]] == ["a", "b"]
    assert found["all"]["n"] == 8 and found["all"]["difference"] == -1 / 8
    assert found["reduced"]["kept_fraction"] == pytest.approx((2 * 0.1 + 6 * 0.5) / 8)
    assert found["reduced"]["prompts"] == 8


def test_a_metric_without_scores_per_question_is_reported_unpaired():
    dense, reduced = left("a", [1, 0], 1.0, 1.0), left("a", [1, 0], 0.3, 1.0)
    for half in (dense, reduced):
        half["samples"]["a"][0]["metrics"] = {"submission": {"x": 1}}
        half["samples"]["a"][1]["metrics"] = {"submission": {"y": 2}}
    (row,) = comparison({"a": dense}, {"a": reduced})["tasks"]
    assert row["metric"] == "submission" and row["paired"] is None and row["unpaired"] == 2


@pytest.fixture
def harness(monkeypatch: pytest.MonkeyPatch) -> Harness:
    return Harness(monkeypatch)


def ask(**changes: Any) -> Request:
    return Request(**{"model": "qwen2_5_vl", "model_args": "pretrained=x", "tasks": ("a", "b")} | changes)


def test_a_killed_run_goes_on_where_it_stopped(harness: Harness, tmp_path: Path):
    harness.kill_after = 3
    with pytest.raises(HarnessError, match="reduced half"):
        run_pair(ask(), METHOD, tmp_path)
    assert harness.ran == [("dense", "a"), ("dense", "b"), ("framefusion", "a")]
    harness.ran, harness.kill_after = [], 10**6
    assert len(run_pair(ask(), METHOD, tmp_path)["tasks"]) == 2
    assert harness.ran == [("framefusion", "b")]


def test_the_dense_half_serves_every_method(harness: Harness, tmp_path: Path):
    run_pair(ask(), METHOD, tmp_path)
    harness.ran = []
    run_pair(ask(), {"method": "fastv", "keep": 0.5}, tmp_path)
    assert harness.ran == [("fastv", "a"), ("fastv", "b")]


def test_bits_are_another_run_of_the_half_they_concern(harness: Harness, tmp_path: Path):
    narrow = Precision.parse("weights=sim4,kv=sim2")
    run_pair(ask(), METHOD, tmp_path)
    assert run_pair(ask(), METHOD, tmp_path, quantize=narrow)["quantize"] == {
        "dense": None,
        "reduced": "weights=sim4,kv=sim2",
    }
    bits = [asked.get("quantize") for asked in harness.options]
    assert bits == [None] * 4 + ["weights=sim4,kv=sim2"] * 2 and harness.ran[4][0] == "framefusion"
    run_pair(ask(), METHOD, tmp_path, quantize=narrow, quantize_dense=narrow)
    assert len(harness.ran) == 8 and harness.ran[-1][0] == "dense"


@pytest.mark.parametrize(
    ("words", "dense"), [([], "weights=sim4"), (["none"], None), (["weights=sim8"], "weights=sim8")]
)
def test_bits_of_the_command_are_for_both_halves_unless_it_says_so(harness: Harness, words, dense, tmp_path, capsys):
    arguments = ["lmms-eval", "--model", "qwen2_5_vl", "--model-args", "pretrained=x", "--tasks", "a", "--json"]
    arguments += ["--quantize", "weights=sim4", "--out", str(tmp_path)]
    assert run_app([*arguments, *(["--quantize-dense", *words] if words else [])]) == 0
    assert json.loads(capsys.readouterr().out)["quantize"] == {"dense": dense, "reduced": "weights=sim4"}
    assert run_app([*arguments, "--quantize", "weights=4"]) == 2
    assert "int4 for a library" in capsys.readouterr().err


@pytest.mark.parametrize("change", [{"limit": 3}, {"model_args": "pretrained=y"}, {"gen_kwargs": "num_beams=2"}])
def test_another_request_is_another_run(change: dict[str, Any], harness: Harness, tmp_path: Path):
    run_pair(ask(), METHOD, tmp_path)
    harness.ran = []
    run_pair(ask(**change), METHOD, tmp_path)
    assert len(harness.ran) == 4


def test_an_edited_task_is_run_again_and_fresh_runs_everything(harness: Harness, tmp_path: Path):
    tasks = tmp_path / "tasks"
    tasks.mkdir()
    (tasks / "a.yaml").write_text("task: a")
    request, out = ask(include_path=str(tasks)), tmp_path / "out"
    for expected, fresh in ((4, False), (0, False), (4, True)):
        harness.ran = []
        run_pair(request, METHOD, out, fresh=fresh)
        assert len(harness.ran) == expected
    (tasks / "a.yaml").write_text("task: a\nversion: 2")
    harness.ran = []
    run_pair(request, METHOD, out)
    assert len(harness.ran) == 4


def test_wrong_names_are_refused_before_anything_runs(harness: Harness, tmp_path: Path):
    with pytest.raises(UnknownNameError):
        run_pair(ask(model="nobody"), METHOD, tmp_path)
    assert not harness.ran


def test_the_command_prints_a_table_and_one_json_document(harness, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    arguments = ["lmms-eval", "--model", "qwen2_5_vl", "--model-args", "pretrained=x", "--tasks", "a,b"]
    arguments += ["--method", "fastv", "--keep", "0.5", "--set", "layer=3", "--out", str(tmp_path)]
    assert run_app(arguments) == 0
    shown = capsys.readouterr().out
    assert "difference" in shown and "kept 30.0%" in shown and "1.00x" in shown
    assert run_app([*arguments, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["method"] == {"method": "fastv", "keep": 0.5, "layer": 3}
    assert [row["task"] for row in document["tasks"]] == ["a", "b"]


def test_without_lmms_eval_the_command_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(room, "find_spec", lambda name: None)
    arguments = ["lmms-eval", "--model", "qwen2_5_vl", "--model-args", "pretrained=x", "--tasks", "a"]
    assert run_app([*arguments, "--out", str(tmp_path)]) == 2
    assert "framefusion[lmms]" in capsys.readouterr().err
