"""`framefusion evaluate` as a user runs it, on a saved checkpoint."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import framefusion as ff
from framefusion.cli.app import run_app
from framefusion.core.registry import RECOMMENDED
from framefusion.evaluation import Records, comparison
from framefusion.inference import tiny
from tests.support.tiny import save_checkpoint

SMALL = ["--samples", "4", "--kinds", "colour,needle", "--max-new-tokens", "2"]
needs_matplotlib = pytest.mark.skipif(
    importlib.util.find_spec("matplotlib") is None, reason="figures need matplotlib, the extra `plot`"
)


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The command on a few questions, put to a checkpoint that answers at random."""
    folder = tmp_path_factory.mktemp("model")
    save_checkpoint("qwen2_5_vl", folder)
    return ["evaluate", "--model", str(folder), *SMALL]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(autouse=True)
def few_probes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Costs are matched on two prompts: all of them are about as long."""
    monkeypatch.setattr(comparison, "PROBES", 2)


def run(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> dict:
    assert run_app(arguments) == 0
    return json.loads(capsys.readouterr().out)


def test_the_document(quick: list[str], cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shown = run([*quick, "--sweep", "0.6,0.4", "--compare", "random,uniform:layer=1", "--json"], capsys)
    assert set(shown["dense"]["by_kind"]) == {"colour", "needle"}
    assert shown["reduced"]["method"] == RECOMMENDED and shown["reduced"]["target"] == 0.6
    costs = {(entry["method"], entry["target"]): entry["cost"] for entry in shown["entries"]}
    assert set(costs) == {(name, cost) for name in (RECOMMENDED, "random", "uniform") for cost in (0.6, 0.4)}
    assert all(cost == pytest.approx(target, abs=0.03) for (_, target), cost in costs.items())
    assert shown["chance"] == pytest.approx(1 / 7)
    records = Records(Path(shown["records"]))
    assert Path(shown["records"]).is_relative_to(cache) and len(records) == 4 * (1 + 6)
    again = run([*quick, "--sweep", "0.6,0.4", "--compare", "random,uniform:layer=1", "--json"], capsys)
    assert again == shown, "the second run answered something again"


def test_a_table_and_a_note(quick: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    out = tmp_path / "answers.jsonl"
    assert run_app([*quick, "--compare", "none", "--set", "keep=0.4", "--out", str(out)]) == 0
    seen = capsys.readouterr()
    assert all(word in seen.out for word in ("dense", RECOMMENDED, "retained", "needle", "40%"))
    assert "answers.jsonl" in seen.err.replace("\n", "") and len(Records(out)) == 8


@needs_matplotlib
@pytest.mark.parametrize(("budget", "kind"), [(["--cost", "0.4"], "png"), (["--sweep", "0.6,0.3"], "svg")])
def test_a_plot(
    quick: list[str], budget: list[str], kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, picture = tmp_path / "a.jsonl", tmp_path / f"cost.{kind}"
    run([*quick, *budget, "--compare", "random", "--out", str(out), "--plot", str(picture), "--json"], capsys)
    data = picture.read_bytes()
    assert data.startswith(b"\x89PNG") if kind == "png" else b"</svg>" in data
    assert len(data) > 10_000


def test_only_the_embedded_model_knows_the_choices(
    quick: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [*quick, "--samples", "2", "--set", "keep=0.4", "--compare", "none", "--json"]
    shown = run(arguments, capsys)
    assert shown["setup"]["choices_named"] is True
    monkeypatch.setattr(tiny, "CHECKPOINT", Path(quick[2]))
    shown = run(arguments, capsys)
    assert shown["setup"]["choices_named"] is False


def test_the_name_before_still_sets_the_cost_and_says_so(quick: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    found = {}
    for option in ("--cost", "--keep"):
        assert run_app([*quick, "--samples", "2", "--compare", "none", "--json", option, "0.4"]) == 0
        shown = capsys.readouterr()
        found[option] = json.loads(shown.out)["entries"]
        assert ("--keep is called --cost here" in shown.err) is (option == "--keep")
    assert [one["target"] for one in found["--cost"]] == [one["target"] for one in found["--keep"]]


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three registered methods, one of which does not run on this model."""
    chosen = [ff.FrameFusion(), ff.EVS(), ff.ToMe()]
    monkeypatch.setattr("framefusion.evaluation.overview.all_methods", lambda: chosen)


def test_all_methods_beside_the_controls(
    quick: list[str], few: None, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    arguments = [*quick, "--all", "--sweep", "0.6,0.4", "--out", str(tmp_path / "a.jsonl")]
    shown = run([*arguments, "--json"], capsys)
    kinds = ("framefusion", "evs", "random", "uniform", "frame_sample")
    assert {(one["method"], one["target"]) for one in shown["entries"]} == {(n, c) for n in kinds for c in (0.6, 0.4)}
    assert {(one["method"], one["control"], one["target"]) for one in shown["comparisons"]} == {
        (method, control, cost) for method in kinds[:2] for control in kinds[2:] for cost in (0.6, 0.4)
    }
    assert all(one["decision_ms"] > 0 for one in shown["entries"])
    assert any("tome is left out" in note for note in shown["notes"])
    kept = (tmp_path / "a.jsonl").read_bytes()
    assert run_app(arguments) == 0
    seen = capsys.readouterr().out
    assert all(word in seen for word in ("at cost 0.6", "at cost 0.4", "evs", "frame_sample", "ms"))
    assert (tmp_path / "a.jsonl").read_bytes() == kept, "the second run answered something again"


@needs_matplotlib
def test_a_plot_of_all_methods(quick: list[str], few: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run([*quick, "--all", "--plot", str(tmp_path / "all.svg"), "--json"], capsys)
    assert all(
        name in (tmp_path / "all.svg").read_text() for name in ("<!-- evs", "<!-- frame_sample", "<!-- cost 0.3")
    )


def _lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


@pytest.mark.slow
def test_a_killed_run_goes_on_where_it_was(
    quick: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "a.jsonl"
    # No cost is matched: the process would match it on more probes than this one.
    arguments = [*quick, "--samples", "12", "--batch", "2", "--set", "keep=0.4", "--compare", "none"]
    arguments += ["--out", str(out), "--json"]
    process = subprocess.Popen(
        [sys.executable, "-m", "framefusion", *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    while _lines(out) < 4 and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = out.read_bytes()
    assert 4 <= _lines(out) < 24, "the run was over before it could be killed"
    shown = run(arguments, capsys)
    assert out.read_bytes().startswith(kept[: kept.rindex(b"\n") + 1])
    assert len(Records(out)) == 24 and _lines(out) <= 25
    assert shown["dense"]["questions"] == shown["reduced"]["questions"] == 12


def test_more_frames_and_a_chain_among_the_controls(quick: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    chain = "frame_sample:keep=16+uniform"
    arguments = [*quick, "--samples", "2", "--cost", "0.1", "--compare", chain, "--json"]
    shown, plain = run([*arguments, "--frames", "64"], capsys), run(arguments, capsys)
    assert [entry["label"] for entry in shown["entries"]] == [RECOMMENDED, "frame_sample+uniform"]
    assert all(entry["cost"] == pytest.approx(0.1, abs=0.02) for entry in shown["entries"])
    assert shown["setup"]["frames"] == 64 and "frames" not in plain["setup"]
    read = {record.visual_tokens for record in Records(Path(shown["records"]))._found.values()}
    assert len(read) == 2 and max(read) == 2 * min(read)


def test_the_budget_without_sinks_is_matched(quick: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--method", "fastvid", "--set", "sinks=0.5", "--cost", "0.4", "--compare", "fastvid", "--json"]
    shown = run([*quick, "--samples", "2", *arguments], capsys)
    assert all(entry["cost"] == pytest.approx(0.4, abs=0.05) for entry in shown["entries"])
    assert (
        shown["reduced"]["options"]["weight"] == 0.5 and shown["reduced"]["options"] != shown["entries"][1]["options"]
    )


WRONG = {
    "frames no scene has": (["--frames", "48"], "multiple of 32", "96"),
    "too many frames": (["--frames", "800"], "frames", "error"),
    "sinks of no attention": (["--set", "sinks=0.5"], "no sinks", "FastV"),
    "sinks out of range": (["--method", "fastv", "--set", "sinks=11"], "sinks", "[0, 10]"),
    "half a chain": (["--compare", "frame_sample+"], "method named ``", "known"),
    "unknown kind": (["--kinds", "colours"], "colours", "needle"),
    "two budgets": (["--cost", "0.3", "--sweep", "0.5"], "--cost and --sweep", "one of them"),
    "budget set by hand too": (["--cost", "0.3", "--set", "keep=0.5"], "--set keep", "one of them"),
    "budget set by its other word": (["--cost", "0.3", "--set", "cost=0.5"], "--set keep", "one of them"),
    "all and one": (["--all", "--method", "evs"], "--all and --method", "leave out --method"),
    "all with an option": (["--all", "--set", "keep=0.5"], "--all and --set", "--compare"),
    "no number": (["--sweep", "0.5,much"], "0.5,much", "0.7,0.5"),
    "two names of one option": (["--keep", "0.3", "--cost", "0.5"], "--cost and --keep", "--cost alone"),
    "out of range": (["--cost", "2"], "(0, 1]", "hint"),
    "unknown control": (["--compare", "rondom"], "rondom", "random"),
    "unknown setting of a control": (["--compare", "random:depth=1"], "depth", "layer"),
    "no batch": (["--batch", "0"], "--batch", "error"),
    "too few samples": (["--samples", "1"], "1 samples", "at least"),
    "no part": (["--part", "half"], "half", "2/4"),
    "a part beyond the last": (["--part", "3/2"], "3/2", "every kind"),
    "another file": (["--out", __file__], "test_evaluate.py", "--out"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_use(quick: list[str], case: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments, named, hint = WRONG[case]
    assert run_app([*quick, *arguments]) == 2
    seen = capsys.readouterr()
    assert seen.out == "" and named in seen.err and hint in seen.err and "Traceback" not in seen.err


def test_a_plot_without_matplotlib(
    quick: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert run_app([*quick, "--plot", "cost.png"]) == 2
    assert "framefusion[plot]" in capsys.readouterr().err


@needs_matplotlib
@pytest.mark.parametrize("path", ["cost.gif", "nowhere/cost.png"])
def test_a_plot_that_cannot_be_written(quick: list[str], path: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_app([*quick, "--plot", path]) == 2
    assert "hint:" in capsys.readouterr().err


def test_a_method_for_the_tower_comes_first(tmp_path, capsys):
    asked = ["evaluate", "--method", "framefusion", "--tower", "pixel_dedup:threshold=0.5", "--compare", "framefusion"]
    asked += ["--samples", "8", "--kinds", "colour", "--out", str(tmp_path / "answers.jsonl"), "--json"]
    assert run_app(asked) == 0
    found = json.loads(capsys.readouterr().out)
    first, alone = found["entries"]
    assert first["label"] == "pixel_dedup+framefusion" and first["patches_share"] < 0.6
    assert alone["label"] == "framefusion" and alone["patches_share"] == 1.0
    assert first["cost"] == pytest.approx(alone["cost"], abs=0.02)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--tower", "fastv"], "leaves the vision tower as it is"),
        (["--tower", "pixel_dedup:threshold=-1"], "threshold"),
        (["--tower", "pixel_dedup", "--method", "tome"], "acts before everything else"),
        (["--tower", "no_such"], "no_such"),
        (["--all", "--tower", "pixel_dedup"], "--tower"),
    ],
)
def test_what_cannot_stand_in_front_of_the_tower_is_refused(words, said, capsys):
    assert run_app(["evaluate", *words]) == 2
    shown = " ".join(capsys.readouterr().err.split())
    assert said in shown and "hint:" in shown
