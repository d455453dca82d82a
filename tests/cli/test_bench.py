"""`framefusion bench` on tiny cells."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from benchmarks import cells, run, shapes
from benchmarks.show.growth import exponent
from framefusion.cli.app import run_app


@pytest.fixture
def tiny(monkeypatch):
    # Processes for the peaks take seconds each; tests/benchmarks/test_peak.py starts them.
    monkeypatch.setattr(run, "peak_apart", lambda cell, variant, cuts: 2.0 if "dense" in variant else 1.0)
    monkeypatch.setitem(shapes.TEXTS, "tiny", shapes.Text(64, 96, 6, 4, 2, 64))
    small = {"shape": "tiny", "frames": 6, "patches": 16, "repeats": 1}
    cpu = [replace(cell, **small, layers=4, close=min(cell.close, 1), decode=1, rows=2) for cell in cells.CPU]
    growth = [replace(cell, **{**small, "frames": cell.frames // 8}, layers=4) for cell in cells.GROWTH_CPU[:2]]
    monkeypatch.setitem(cells.PRESETS, "cpu", tuple(cpu + growth))


def test_json_has_rows_of_every_variant_and_adds_them_to_the_file(tiny, tmp_path, capsys):
    pytest.importorskip("matplotlib", reason="figures need matplotlib")
    file, folder = tmp_path / "rows.jsonl", tmp_path / "shown"
    assert run_app(["bench", "--rows", str(file), "--show", str(folder), "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()] == rows
    prefill = {row["variant"]: row for row in rows if row["kind"] == "parts" and row["part"] == "prefill"}
    assert set(prefill) == {"dense", "reduced", "oracle"}
    for row in prefill.values():
        assert 0 < row["p20_ms"] <= row["median_ms"] <= row["p80_ms"] and row["torch"] and row["device"]
    assert [prefill[name]["repeats"] for name in ("dense", "reduced", "oracle")] == [1, 2, 2]
    assert {row["repeats"] for row in rows if row["part"] == "decode per token"} == {1}
    assert prefill["dense"]["peak_mib"] == 2.0 and prefill["reduced"]["peak_mib"] == 1.0
    batches = {row["variant"]: row for row in rows if row["kind"] == "batch" and row["part"] == "prefill per row"}
    assert batches["reduced, batch"]["peak_mib"] == 1.0 and batches["reduced, batch"]["tokens_per_layer"]
    assert prefill["reduced"]["tokens_per_layer"] == prefill["oracle"]["tokens_per_layer"]
    assert {"decision", "application", "merge"} == {row["part"] for row in rows if row["kind"] == "merge"}
    assert "oracle" in {row["variant"] for row in rows if row["kind"] == "merge"}
    page = (folder / "page.html").read_text(encoding="utf-8")
    assert "data:image/png;base64," in page and "<table>" in page and "http" not in page
    tables = (folder / "tables.md").read_text(encoding="utf-8")
    assert (folder / "growth.png").stat().st_size and "| prefill | reduced |" in tables
    assert _waits(tables) == sorted(_waits(tables)) and len(_waits(tables)) == 2


def _waits(tables):
    """Milliseconds from the file to the first token and to the last, of the reduced model."""
    lines = [line.split(" | ") for line in tables.splitlines() if line.startswith("| file to ")]
    return [float(cells[2].replace(",", "")) for cells in lines if cells[1] == "reduced"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_without_a_gpu_its_rows_say_so(tmp_path, capsys):
    assert run_app(["bench", "--preset", "gpu", "--rows", str(tmp_path / "rows.jsonl"), "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert rows and all(row["median_ms"] is None and row["note"] == "not measured" for row in rows)


@pytest.mark.parametrize("others", [False, True], ids=["alone", "beside somebody else's benchmarks"])
def test_without_a_checkout_it_says_so_at_once(others, tmp_path, monkeypatch, capsys):
    if others:
        (tmp_path / "benchmarks").mkdir()
        (tmp_path / "benchmarks" / "run.py").write_text("raise RuntimeError('not ours')")
    monkeypatch.setattr("framefusion.cli.bench.REPOSITORY", tmp_path)
    assert run_app(["bench", "--preset", "tpu", "--rows", str(tmp_path)]) == 2
    shown = " ".join(capsys.readouterr().err.split())
    assert shown.startswith("error: `framefusion bench` needs a checkout") and "hint: clone it" in shown


def test_an_unknown_preset_is_named(tmp_path, capsys):
    assert run_app(["bench", "--preset", "tpu", "--rows", str(tmp_path / "rows.jsonl")]) == 2
    assert "cpu, growth, gpu" in " ".join(capsys.readouterr().err.split())


def test_the_exponent_is_the_slope_in_logarithms():
    assert exponent([(8, 1.0), (64, 10.0), (128, 40.0), (256, 160.0)]) == pytest.approx(2.0)
