"""A study's cells through lmms-eval, here with a stand-in for its process: rows, notes, and nothing run twice."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from framefusion import FrameFusion, Random
from framefusion.cli.app import run_app
from framefusion.core.errors import HarnessError, OptionError
from framefusion.evaluation.study.grid import Grid
from framefusion.evaluation.study.page import BEGIN, END, tables
from framefusion.evaluation.study.rows import read_rows
from framefusion.inference.quantization import Width
from framefusion.integrations.lmms import harness as room
from framefusion.integrations.lmms.harness import Request
from framefusion.integrations.lmms.study import study
from tests.integrations.stand_in import Harness, left

SIM2, INT8 = Width(2, simulated=True), Width(8)
GRID = Grid((FrameFusion(), Random(seed=1)), (1.0, 0.25), weights=(Width(), INT8), kv=(SIM2, Width()))
REQUEST = Request("qwen2_5_vl", "pretrained=somewhere,max_num_frames=8", ("a", "b"))
QUESTIONS = 8


class Cells(Harness):
    """A model that is worse with fewer tokens, and worse still with fewer bits for its cache."""

    def leaves(self, task: str, options: dict[str, Any]) -> dict[str, Any]:
        budget, bits = options.get("cost", options.get("keep", 1.0)), options.get("quantize", "")
        narrow = "kv=" in bits
        right = QUESTIONS - 2 * (options["method"] != "dense") - narrow
        scores = [float(number < right) for number in range(QUESTIONS)]
        memory = {"prompt_tokens": 100, "weight_bytes": 500 if "int8" in bits else 1000, "ms_median": 50.0}
        memory["kv_bytes"] = 4000 * budget * (4 / 32 if narrow else 1)
        notes = ["the kernel is slow here"] if "int8" in bits else []
        return left(task, scores, budget, 10.0, **memory) | {
            "setup": {"dtype": "float32", "fast": not narrow, "notes": notes}
        }


@pytest.fixture
def cells(monkeypatch: pytest.MonkeyPatch) -> Cells:
    return Cells(monkeypatch)


def test_every_cell_is_a_row_and_dense_comes_first(cells: Cells, tmp_path: Path):
    found = study(REQUEST, GRID, tmp_path)
    assert len(found.rows) == 3 * 4 and found.rows[0].id == "dense 1 W16 A16 KV16"
    assert found.rows[1].id == "framefusion 0.25 W16 A16 KV16"
    assert len({row.cell for row in found.rows}) == 12
    # Precisions that are not possible fail with the dense model, before a method has run.
    assert [method for method, _ in cells.ran[:8]] == ["dense"] * 8 and "quantize" not in cells.options[0]
    last = {"method": "random", "keep": 0.25, "seed": 1, "quantize": "weights=int8"}
    assert last.items() <= cells.options[-1].items()
    assert (found.model, found.seed, found.chance) == ("somewhere through lmms-eval's qwen2_5_vl", None, None)
    assert found.notes == ("the kernel is slow here",)


def test_rows_say_what_tokens_and_bits_cost(cells: Cells, tmp_path: Path):
    rows = {row.id: row for row in study(REQUEST, GRID, tmp_path).rows}
    dense, both = rows["dense 1 W16 A16 KV16"], rows["random 0.25 W8 A16 KV2*"]
    assert dense.questions == 2 * QUESTIONS and dense.accuracy.value == 1.0 and dense.accuracy.low < 1.0
    assert dense.against.difference.value == 0 and both.against.difference.value == pytest.approx(-3 / 8)
    assert both.against.difference.low < -3 / 8 < both.against.difference.high < 0
    assert (both.against.wins, both.against.losses, both.against.share.value) == (0, 6, pytest.approx(5 / 8))
    assert {task: part.value for task, part in both.tasks.items()} == {"a": 5 / 8, "b": 5 / 8}
    assert both.halves == (3 / 4, 2 / 4) and both.cost == both.kept == 0.25
    # 16-bit values count two bytes, though this model computes with four.
    assert dense.kv_bytes == 2000 and both.kv_bytes == 4000 * 0.25 * 4 / 32
    assert (dense.weight_bytes, both.weight_bytes) == (1000, 500)
    assert (dense.prefill_ms, dense.ms) == (10.0, 50.0) and both.prefill_ms is None is both.ms
    assert dense.confidence is None and dense.calibration_error is None


def test_rows_and_tables_leave_out_what_nobody_knows(cells: Cells, tmp_path: Path):
    found = study(REQUEST, GRID, tmp_path)
    text = "".join(row.to_line() for row in found.rows)
    assert "".join(row.to_line() for row in read_rows(text)) == text and "NaN" not in text
    page = tables(found, "framefusion study --tasks a,b")
    assert all(f"`{row.id}`" in page for row in found.rows)
    assert "calibration" not in page and "seed" not in page and "chance" not in page
    assert "| row | accuracy | against dense | a | b | weights |" in page and "10 ms" in page


def test_a_killed_study_goes_on_and_shares_its_runs(cells: Cells, tmp_path: Path):
    cells.kill_after = 9
    with pytest.raises(HarnessError, match=r"cell 5 of 12 \(framefusion 0\.25 W16 A16 KV16\) ended with exit code -9"):
        study(REQUEST, GRID, tmp_path)
    cells.ran, cells.kill_after = [], 10**6
    whole = study(REQUEST, GRID, tmp_path)
    assert len(cells.ran) == 24 - 9
    cells.ran = []
    assert study(REQUEST, GRID, tmp_path) == whole and not cells.ran
    arguments = ["lmms-eval", "--model", "qwen2_5_vl", "--model-args", REQUEST.model_args, "--tasks", "a,b"]
    arguments += ["--method", "random", "--set", "seed=1", "--keep", "0.25", "--quantize", "weights=int8,kv=sim2"]
    assert run_app([*arguments, "--quantize-dense", "none", "--out", str(tmp_path)]) == 0 and not cells.ran


def test_scores_that_are_no_accuracy_are_left_out_aloud(cells: Cells, tmp_path: Path, monkeypatch):
    plain = cells.leaves

    def leaves(task: str, options: dict[str, Any]) -> dict[str, Any]:
        found = plain(task, options)
        for row in found["samples"][task]:
            row["metrics"] |= {"stars": 5.0, "essay": {"text": "x"}, "wups": 0.5}
        if options["method"] == "random":
            del found["samples"][task][0]
        return found

    monkeypatch.setattr(cells, "leaves", leaves)
    found = study(REQUEST, GRID, tmp_path)
    assert "left out stars of a: from 5 to 5 it is no accuracy" in found.notes
    assert "left out essay of b: it has no score per question" in found.notes
    assert "left out 1 questions of b: some cell has no acc of them" in found.notes
    first = found.rows[0]
    assert first.questions == 4 * (QUESTIONS - 1)
    assert first.kinds == {"a acc": 1.0, "a wups": 0.5, "b acc": 1.0, "b wups": 0.5}
    assert first.tasks["a"].value == 0.75 and first.tasks["a"].low < 0.75 < first.tasks["a"].high


def test_nothing_to_compare(cells: Cells, tmp_path: Path, monkeypatch):
    plain = cells.leaves

    def leaves(task: str, options: dict[str, Any]) -> dict[str, Any]:
        found = plain(task, options)
        for row in found["samples"][task]:
            row["metrics"] = {"stars": 5.0}
        return found

    monkeypatch.setattr(cells, "leaves", leaves)
    with pytest.raises(HarnessError, match="no score per question"):
        study(REQUEST, GRID, tmp_path)


def test_bits_in_the_arguments_would_be_in_every_cell(cells: Cells, tmp_path: Path):
    with pytest.raises(OptionError, match="quantize"):
        study(Request("qwen2_5_vl", "pretrained=x,quantize=kv:sim4", ("a",)), GRID, tmp_path)
    assert not cells.ran


HEAD = ["study", "--tasks", "a,b", "--model", "qwen2_5_vl", "--model-args", REQUEST.model_args, "--methods", "random"]
HEAD += ["--budgets", "1,0.5", "--weights", "16", "--activations", "16", "--kv", "16,2"]


def test_the_command_writes_rows_and_a_page(cells: Cells, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    page = tmp_path / "page.md"
    page.write_text(f"{BEGIN}\n{END}\n")
    outputs = ["--rows", str(tmp_path / "rows.jsonl"), "--page", str(page), "--out", str(tmp_path / "kept")]
    assert run_app([*HEAD, *outputs, "--batch-size", "2", "--limit", "8", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    rows = read_rows((tmp_path / "rows.jsonl").read_text())
    assert [row["id"] for row in document["rows"]] == [row.id for row in rows] and len(rows) == 4
    assert document["chance"] is None and document["records"] == str(tmp_path / "kept")
    assert all(f"`{row.id}`" in page.read_text() for row in rows)
    asked = json.loads(next((tmp_path / "kept").rglob("run.json")).read_text())
    assert (asked["batch_size"], asked["limit"]) == (2, 8)
    assert run_app([*HEAD, "--out", str(tmp_path / "kept")]) == 0
    shown = capsys.readouterr().out
    assert "16 questions per cell" in shown and "KV2*" in shown and "None" not in shown


WRONG = {
    "samples": (["--samples", "3"], "--limit"),
    "dtype": (["--dtype", "float32"], "--dtype does not go with --tasks"),
    "no tasks": (["--tasks", ","], "--tasks names no task"),
    "a model": (["--model", "nobody"], "no reduced lmms-eval model named"),
    "a width": (["--kv", "16,9"], "9 bits"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_use(case: str, cells: Cells, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    arguments, named = WRONG[case]
    assert run_app([*HEAD, "--out", str(tmp_path), *arguments]) == 2
    seen = capsys.readouterr()
    assert named in seen.err and seen.out == "" and not cells.ran


@pytest.mark.parametrize("arguments", [["--model-args", "pretrained=x"], ["--limit", "3"]])
def test_options_of_tasks_need_tasks(arguments: list[str], capsys: pytest.CaptureFixture[str]):
    assert run_app(["study", *arguments]) == 2
    assert "goes with --tasks only" in capsys.readouterr().err


def test_tasks_need_arguments(cells: Cells, capsys: pytest.CaptureFixture[str]):
    assert run_app(["study", "--tasks", "a", "--model", "qwen2_5_vl"]) == 2
    assert "--tasks needs --model-args" in capsys.readouterr().err


def test_without_lmms_eval_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(room, "find_spec", lambda name: None)
    assert run_app([*HEAD, "--out", str(tmp_path)]) == 2
    assert "framefusion[lmms]" in capsys.readouterr().err
