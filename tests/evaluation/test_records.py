"""Answers on disk survive a kill, are never doubled, and are found again only where everything is the same."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from framefusion.core.errors import RecordsError
from framefusion.evaluation.cells import Cell
from framefusion.evaluation.records import Record, Records, default_path

CELL = Cell("model", "0123", "fastv", {"keep": 0.3, "layers": (1, 2)}, {"dtype": "float32"}, {"torch": "2"})


def record(seed, cell=CELL, **changes):
    plain = {"expected": "é", "answer": "é", "correct": True, "text": "é", "confidence": 0.5, "prompt_tokens": 9}
    plain |= {"visual_tokens": 8, "kept_tokens": 2, "cost": 0.3, "new_tokens": 1, "prefill_ms": 1.0, "ms": 2.0}
    return Record(cell, seed, "colour", **(plain | {"kv_bytes": 64.0, "rows": 1} | changes))


def test_answers_come_back_as_they_were(tmp_path):
    file = tmp_path / "deep" / "a.jsonl"
    Records(file).add([record(1), record(2)])
    again = Records(file)
    assert len(again) == 2 and again.torn == 0
    found = again.get(CELL, (2, "colour"))
    assert replace(found, cell=CELL) == record(2) and found.cell.key == CELL.key
    assert found.kept_fraction == 0.25


def test_a_torn_line_is_skipped_and_the_next_one_is_whole(tmp_path):
    file = tmp_path / "a.jsonl"
    Records(file).add([record(1), record(2)])
    file.write_bytes(file.read_bytes()[:-20])
    torn = Records(file)
    assert len(torn) == 1 and torn.torn == 1
    torn.add([record(2)])
    assert len(Records(file)) == 2


def test_a_torn_letter_is_no_problem(tmp_path):
    file = tmp_path / "a.jsonl"
    Records(file).add([record(1), record(2)])
    whole = file.read_bytes()
    file.write_bytes(whole[: whole.rindex("é".encode()) + 1])
    assert len(Records(file)) == 1


def test_the_first_answer_stays(tmp_path):
    file = tmp_path / "a.jsonl"
    records = Records(file)
    records.add([record(1)])
    records.add([record(1, text="other")])
    assert len(file.read_text().splitlines()) == 1
    # Two runs at once may both have answered.
    with file.open("a") as end:
        end.write(record(1, text="other").to_line())
    assert Records(file).get(CELL, (1, "colour")).text == "é"


CHANGED = {
    "weights": replace(CELL, weights="4567"),
    "method": replace(CELL, method="dart"),
    "option": replace(CELL, options={"keep": 0.3, "layers": (1, 3)}),
    "setup": replace(CELL, setup={"dtype": "bfloat16"}),
    "version": replace(CELL, versions={"torch": "3"}),
    "model": replace(CELL, model="other"),
}


@pytest.mark.parametrize("what", CHANGED)
def test_a_key_changes_with_everything_that_may_change_an_answer(what):
    assert CHANGED[what].key != CELL.key


def test_the_order_of_options_does_not_matter():
    assert replace(CELL, options={"layers": (1, 2), "keep": 0.3}).key == CELL.key


def test_another_file_is_not_written_to(tmp_path):
    file = tmp_path / "README.md"
    file.write_text("# Title\n\nwords\n")
    with pytest.raises(RecordsError, match="hint"):
        Records(file)
    assert file.read_text() == "# Title\n\nwords\n"


def test_a_file_that_cannot_be_written(tmp_path):
    with pytest.raises(RecordsError, match="--out"):
        Records(tmp_path)


def test_the_default_place_is_the_cache_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    path = default_path("org/Model-3B", "abcd")
    assert path == tmp_path / "framefusion" / "answers" / "org-Model-3B-abcd.jsonl"
    assert ".." not in default_path("../../x", "abcd").parts
    # The standard says that a relative path is to be ignored.
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert default_path("m", "w").is_relative_to(Path.home() / ".cache")
