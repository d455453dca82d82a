"""The preset of streams in a very short form, and what its rows come to."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from benchmarks import cells, rows
from benchmarks.show import growth
from benchmarks.show.stream import stream_tables
from benchmarks.stream import measure
from benchmarks.stream.asked import answers_of, grouped, line_of
from framefusion.cli.app import run_app
from framefusion.evaluation.long_streams import LAST, Answered, LongQuestion, by_age
from framefusion.inference.tiny.known import asks_known


def watched_row(part, policy="uniform", **more):
    return {"part": part, "policy": policy, "median_ms": None, **more}


def test_the_summary_is_that_of_the_worst_policy():
    found = [
        watched_row("memory", windows=1000, cache_mib=1.0, peak_mib=330.0),
        watched_row("memory", windows=20, cache_mib=1.0, peak_mib=300.0),
        watched_row("memory", "window", windows=20, cache_mib=1.0, peak_mib=None),
        watched_row("memory", "window", windows=1000, cache_mib=2.0, peak_mib=None),
        watched_row("latency", windows=20, median_ms=10.0),
        watched_row("latency", windows=1000, median_ms=10.5),
        *(watched_row("work", frames=frames, median_ms=0.2 * frames) for frames in (500, 1000, 8000)),
        *(watched_row("work", "window", frames=frames, median_ms=0.01 * frames**1.5) for frames in (500, 8000)),
    ]
    assert measure.summary(found) == {"memory_ratio": 2.0, "latency_ratio": 1.05, "exponent": 1.5, "ahead": {}}
    assert measure.summary([]) == {"memory_ratio": None, "latency_ratio": None, "exponent": None, "ahead": {}}


def answered(arm, seed, number, correct):
    question = LongQuestion(seed, "shape", 7200, 7200 - 400 * 2, f"question {number}", "ring", ("ring", "cross"))
    return Answered(question, arm, "ring" if correct else "cross", correct)


def rows_of(answers, seed):
    for group, own in grouped(answers):
        about = {"part": "accuracy", "kind": "questions", "seed": seed, "frames": 7200, "memory": 512, "device": "CPU"}
        yield {**about, "policy": group.arm, "answers": [line_of(one) for one in own]}


def test_streams_are_put_together_from_the_answers_of_their_rows():
    made = []
    for seed, right in ((1, 3), (2, 4)):
        answers = [answered("infinipot", seed, number, number < right) for number in range(4)]
        answers += [answered(LAST, seed, number, False) for number in range(4)]
        made += json.loads(json.dumps(list(rows_of(answers, seed))))
    (group,) = [group for group in by_age(answers_of(made)) if group.arm == "infinipot"]
    assert (group.age, group.count, group.accuracy.value) == ("ten minutes", 8, 0.875)
    ahead = measure.summary(made)["ahead"]["infinipot"]["ten minutes"]
    assert ahead[LAST][0] == 87.5 and 0 < ahead[LAST][1] < ahead[LAST][2] == 100.0
    text = stream_tables(made)
    assert "2 streams of 7200 frames" in text and "87.5 %" in text and "| infinipot | 7 of 8 |" in text
    assert f"| infinipot | {LAST} |" in text


@pytest.mark.parametrize("answers", [{}, [1], [[1, 2, "shape"]], [[1, 2, "shape", "what?", "ring", 1]]])
def test_rows_whose_answers_cannot_be_read_are_left_out(answers, tmp_path):
    about = {name: "" for name in rows.TEXTS} | dict.fromkeys((*rows.NUMBERS, *rows.FIGURES), 0)
    whole = {
        **about,
        "policy": "window",
        "seed": 3,
        "accuracy": 1.0,
        "answers": [[1, 2, "shape", "what?", "ring", True]],
    }
    file = tmp_path / "rows.jsonl"
    rows.append(file, [{**whole, "variant": "torn", "answers": answers}, whole])
    assert rows.read(file) == [whole]


def test_work_is_compared_over_a_factor_of_sixteen_in_whole_windows():
    assert measure.lengths(8000, 8) == [496, 1000, 2000, 4000, 8000]
    assert measure.lengths(8192, 8) == [512, 1024, 2048, 4096, 8192]


def test_every_policy_that_keeps_a_bound_has_a_cell():
    names = [cell.name for cell in cells.cells_of("stream")]
    assert names[-len(cells.HOURS) :] == [cell.name for cell in cells.HOURS] and {
        "stream, window",
        "stream, infinipot",
    } < set(names)
    assert not {"stream, none", "stream, retrieve"} & set(names)
    assert "retrieve" in measure.policies()


def test_the_embedded_model_is_guided_by_questions_it_was_trained_on():
    asked = [question for policy in measure.spoken(measure.policies()) for question in policy.questions]
    assert len(asked) == 2 and all(map(asks_known, asked))


@pytest.mark.slow
def test_one_document_with_rows_and_a_summary(monkeypatch, tmp_path, capsys):
    pytest.importorskip("matplotlib", reason="figures need matplotlib")
    monkeypatch.setattr(measure, "policies", lambda: ["window"])
    monkeypatch.setattr(measure, "EARLY", 8)
    monkeypatch.setattr(growth, "FROM", 1)
    monkeypatch.setattr(cells, "WATCHED", replace(cells.WATCHED, frames=64, memory=64, window=2))
    monkeypatch.setattr(cells, "HOURS", tuple(replace(hour, frames=48, memory=128) for hour in cells.HOURS[:1]))
    file, folder = tmp_path / "rows.jsonl", tmp_path / "shown"
    assert run_app(["bench", "--preset", "stream", "--rows", str(file), "--show", str(folder), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    found: dict[str, list] = {}
    for row in document["rows"]:
        found.setdefault(row["part"], []).append(row)
    assert set(found) == {"memory", "latency", "work", "accuracy"}
    assert [row["windows"] for row in found["memory"]] == [8, 32] == [row["windows"] for row in found["latency"]]
    assert found["memory"][0]["cache_mib"] == found["memory"][1]["cache_mib"] > 0
    assert [row["frames"] for row in found["work"]] == [4, 8, 16, 32, 64]
    assert sorted(row["median_ms"] for row in found["work"]) == [row["median_ms"] for row in found["work"]]
    assert {row["policy"] for row in found["accuracy"] if not row["control"]} == {"window"}
    assert all(0 <= row["accuracy"] <= 1 and row["age_s"] >= 0 for row in found["accuracy"])
    assert set(document["summary"]) == {"memory_ratio", "latency_ratio", "exponent", "ahead"}
    assert {row["seed"] for row in found["accuracy"]} == {hour.seed for hour in cells.HOURS}
    assert document["summary"]["memory_ratio"] >= 1.0
    tables = (folder / "tables.md").read_text(encoding="utf-8")
    assert "### Streams" in tables and "### Accuracy by age" in tables and (folder / "ages.png").stat().st_size
