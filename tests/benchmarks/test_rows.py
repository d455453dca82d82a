"""Rows of runs that went well, that ran out of memory, and that are shown."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from benchmarks import cells, run
from benchmarks.rows import NOT_MEASURED, of_cells, read, row
from benchmarks.show import tables
from benchmarks.timing import Spread
from tests.benchmarks.tiny import BATCH, CPU, MERGE, PROMPT, tiny_shape  # noqa: F401

pytestmark = pytest.mark.usefixtures("tiny_shape")
TIME = Spread.of([2.0, 3.0, 4.0])


def made(cell, variant, part="prefill", time=TIME, device=CPU, **more):
    return row(run.about(cell, device), variant, part, time, **more)


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("none"), MemoryError(), RuntimeError("can't allocate memory")]
)
def test_a_cell_without_enough_memory_says_so_and_the_next_one_is_measured(monkeypatch, error):
    def too_large(cell, about, device, tick):
        tick("building the model")
        raise error

    monkeypatch.setitem(cells.PRESETS, "cpu", (PROMPT, MERGE))
    monkeypatch.setitem(run.KINDS, "prompt", too_large)
    failed, measured = run.measure("cpu", CPU, lambda text: None)
    assert {row["note"] for row in failed} == {"not measured: out of memory at building the model"}
    assert [row["median_ms"] for row in failed] == [None] * 3 and all(row["median_ms"] for row in measured)


def test_another_error_is_not_taken_for_a_lack_of_memory(monkeypatch):
    def broken(cell, about, device, tick):
        raise RuntimeError("shapes do not fit")

    monkeypatch.setitem(cells.PRESETS, "cpu", (PROMPT,))
    monkeypatch.setitem(run.KINDS, "prompt", broken)
    with pytest.raises(RuntimeError, match="shapes"):
        list(run.measure("cpu", CPU, lambda text: None))


def test_a_measured_cell_is_no_longer_called_not_measured(tmp_path):
    missing = [made(cell, "dense", time=None, device=None, note=NOT_MEASURED) for cell in (PROMPT, BATCH)]
    measured = made(PROMPT, "dense")
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(one) + "\n" for one in (*missing, measured)), encoding="utf-8")
    assert read(file) == [missing[1], {**measured, "times_ms": list(TIME.times_ms)}]


def test_rows_of_cells_that_are_gone_are_not_shown():
    rows = [made(PROMPT, "dense"), made(BATCH, "dense, batch"), {**made(PROMPT, "dense"), "cell": "an earlier cell"}]
    assert of_cells(rows, {PROMPT.name, BATCH.name}) == rows[:2]
    assert {cell.name for cell in cells.GPU} < cells.names()


def head(text):
    return next(line for line in text.splitlines() if line.startswith("| part"))


def test_columns_say_what_they_compare_with():
    merge = tables([made(MERGE, name, "merge") for name in ("copy", "reduced", "oracle", "published")])
    assert all(words in head(merge) for words in ("faster than published", "÷ copy", "÷ oracle"))
    assert "dense" not in merge and "peak" not in merge
    batch = tables([made(BATCH, name, "prefill per row") for name in ("dense, batch", "dense, one by one")])
    assert "÷ one by one" in head(batch) and "faster than dense" in head(batch)
    assert batch.splitlines()[6].split(" | ")[5].startswith("1.00")


def test_times_are_compared_round_by_round():
    # A round that is slow for both says nothing; medians of three rounds would.
    times = {"dense": [90.0, 40.0, 44.0], "reduced": [30.0, 10.0, 11.0, 5.0], "oracle": [20.0, 10.0, 10.0, 5.0]}
    lines = tables([made(PROMPT, name, time=Spread.of(found)) for name, found in times.items()]).splitlines()
    reduced = next(line.strip(" |").split(" | ") for line in lines if line.startswith("| prefill | reduced"))
    names = next(line for line in lines if line.startswith("| part")).strip(" |").split(" | ")
    assert reduced[names.index("× faster than dense")] == "4.00"
    assert reduced[names.index("time ÷ oracle")] == "1.05"


def test_the_peak_is_compared_with_the_dense_one():
    peaks = {"dense": 200.0, "reduced": 50.0, "oracle": None}
    lines = tables([made(PROMPT, name, peak_mib=peak) for name, peak in peaks.items()]).splitlines()
    place = next(line for line in lines if line.startswith("| part")).split(" | ").index("peak ÷ dense")
    found = {line.split(" | ")[1]: line.split(" | ")[place] for line in lines if line.startswith("| prefill")}
    assert found == {"dense": "", "reduced": "0.25", "oracle": ""}


def test_what_the_host_alone_spends_is_marked():
    part = "decision and application"
    text = tables([made(PROMPT, "reduced", part, note=run.HOST_TIME), made(PROMPT, "dense")])
    assert f"{part}: {run.HOST_TIME}." in text


def test_on_a_gpu_deciding_is_the_hosts_time(monkeypatch):
    class Gpu:
        type = "cuda"

    trial = run.trial_of(PROMPT, run.model_of(PROMPT, CPU), CPU)
    monkeypatch.setattr(run, "peak_here", lambda run, device: 1.0)
    rows = run._prompt_rows(trial, PROMPT, run.about(PROMPT, CPU), Gpu(), lambda text: None)
    noted = {row["part"]: row.get("note") for row in rows if row["variant"] == "reduced"}
    assert noted.pop("decision and application") == run.HOST_TIME and set(noted.values()) == {None}


def test_attention_in_8_bits_that_cannot_be_had_is_a_row_that_says_so():
    rows = run._prompt(replace(PROMPT, attention="sage"), {"cell": "tiny"}, CPU, lambda text: None)
    assert {row["median_ms"] for row in rows} == {None}
    assert all("needs an NVIDIA GPU" in row["note"] for row in rows)


def test_attention_in_8_bits_is_measured_like_any_other(monkeypatch):
    monkeypatch.setattr(run, "peak_apart", lambda *asked: 1.0)  # three processes, of tests/benchmarks/test_peak.py
    rows = run._prompt(replace(PROMPT, attention="sage-emulated"), run.about(PROMPT, CPU), CPU, lambda text: None)
    assert {row["variant"] for row in rows} == {"dense", "reduced", "oracle"}
    assert all(row["median_ms"] > 0 for row in rows)
