"""`framefusion study`, and `--quantize` and `--attention` of run and evaluate, on a toy checkpoint."""

from __future__ import annotations

import json
from importlib.util import find_spec

import pytest

from framefusion.cli.app import run_app
from framefusion.evaluation.study.page import BEGIN, END
from framefusion.evaluation.study.rows import read_rows
from framefusion.inference.video import write_clip
from tests.support.tiny import moving_clip, save_checkpoint

needs_torchao = pytest.mark.skipif(find_spec("torchao") is None, reason="needs torchao")
needs_matplotlib = pytest.mark.skipif(find_spec("matplotlib") is None, reason="needs matplotlib")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    found = tmp_path_factory.mktemp("study")
    save_checkpoint("qwen2_5_vl", found / "model")
    write_clip(found / "clip.mp4", moving_clip(4), fps=4.0)
    return found


@pytest.fixture
def small(folder):
    """A study of few cells."""
    return [
        *("study", "--model", str(folder / "model"), "--methods", "random", "--budgets", "1,0.4", "--weights", "16,4"),
        *("--activations", "16", "--kv", "16,2", "--samples", "2", "--kinds", "colour,needle", "--max-new-tokens", "2"),
        *("--group", "16"),
    ]


@needs_matplotlib
def test_a_study_writes_rows_figures_and_a_page(small, tmp_path, capsys):
    page = tmp_path / "page.md"
    page.write_text(f"{BEGIN}\n{END}\n")
    outputs = [
        "--out",
        str(tmp_path / "answers.jsonl"),
        "--rows",
        str(tmp_path / "rows.jsonl"),
        "--plots",
        str(tmp_path),
    ]
    assert run_app([*small, *outputs, "--page", str(page), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    rows = read_rows((tmp_path / "rows.jsonl").read_text())
    assert [row.id for row in rows] == [row["id"] for row in document["rows"]] and len(rows) == 8
    assert all(f"`{row.id}`" in page.read_text() for row in rows)
    assert (tmp_path / "study-random.png").stat().st_size and (tmp_path / "study-frontier.png").stat().st_size
    lines = (tmp_path / "answers.jsonl").read_text().splitlines()
    assert len(lines) == 16
    assert run_app([*small, "--out", str(tmp_path / "answers.jsonl")]) == 0
    assert (tmp_path / "answers.jsonl").read_text().splitlines() == lines
    shown = capsys.readouterr().out
    assert "random" in shown and "KV2*" in shown


WRONG = {
    "no page": (["--page", "nowhere.md"], "place for the rows"),
    "no folder": (["--rows", "nowhere/rows.jsonl"], "nowhere"),
    "a width": (["--kv", "16,9"], "9 bits"),
    "a word": (["--weights", "four"], "int4"),
    "a budget": (["--budgets", "2"], "(0, 1]"),
    "no list": (["--budgets", "a,b"], "--budgets"),
    "a method": (["--methods", "rondom"], "random"),
    "attention": (["--attention", "flash"], "sage"),
    "no batch": (["--batch", "0"], "--batch"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_use(small, case, capsys):
    arguments, named = WRONG[case]
    assert run_app([*small, *arguments]) == 2
    seen = capsys.readouterr()
    assert named in seen.err and "Traceback" not in seen.err and seen.out == ""


def asked(folder, *arguments):
    head = [
        "run",
        str(folder / "clip.mp4"),
        "what?",
        "--model",
        str(folder / "model"),
        "--max-new-tokens",
        "3",
        "--frames",
        "4",
    ]
    return [*head, "--method", "random", "--json", *arguments]


QUANTISED = [
    ("--quantize", "weights=sim4,activations=sim8,kv=sim4,group=16"),
    ("--attention", "sage-emulated"),
    pytest.param(("--quantize", "weights=int4,activations=int8,kv=sim4,group=16"), marks=needs_torchao),
]


@pytest.mark.parametrize("arguments", QUANTISED)
def test_run_quantised(folder, arguments, capsys):
    assert run_app(asked(folder)) == 0
    plain = json.loads(capsys.readouterr().out)
    assert run_app(asked(folder, *arguments)) == 0
    seen = capsys.readouterr()
    document = json.loads(seen.out)
    assert plain["quantize"] is None and document["quantize"]
    if "--quantize" in arguments:
        assert document["quantize"] == arguments[1]
        assert document["reduced"]["kv_bytes"] < plain["reduced"]["kv_bytes"]
    assert "simulated" in seen.err or "torchao" in seen.err


def test_evaluate_quantised(folder, tmp_path, capsys):
    head = ["evaluate", "--model", str(folder / "model"), "--method", "random", "--compare", "none", "--samples", "2"]
    head += ["--kinds", "colour,needle", "--max-new-tokens", "2", "--json", "--out", str(tmp_path / "a.jsonl")]
    assert run_app([*head, "--quantize", "weights=sim2,kv=sim2"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["setup"]["quantize"] == "weights=sim2,kv=sim2"


REFUSED = {
    "weights=4": "int4 for a library",
    "kv=int3": "int2, int4, int8",
}


@pytest.mark.parametrize("text", REFUSED)
def test_quantize_says_what_is_wrong(folder, text, capsys):
    assert run_app(asked(folder, "--quantize", text)) == 2
    assert REFUSED[text] in capsys.readouterr().err


def test_sage_needs_a_gpu(folder, capsys):
    assert run_app(asked(folder, "--attention", "sage", "--device", "cpu")) == 2
    seen = capsys.readouterr().err
    assert "NVIDIA" in seen and "sage-emulated" in seen
