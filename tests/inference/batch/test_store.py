"""What is on disk survives: torn lines, full disks, two runs at once, and a kill at any moment."""

from __future__ import annotations

import errno
import os
from dataclasses import replace
from pathlib import Path

import pytest

from framefusion.core.errors import MissingPackageError, OptionError, RecordsError
from framefusion.inference.batch.store import Store
from framefusion.inference.batch.table import read_table, write_table
from tests.inference.batch.rows import JOB, bad, row


@pytest.fixture(params=["jsonl", "parquet"])
def out(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    if request.param == "parquet":
        pytest.importorskip("pyarrow", reason="Parquet needs pyarrow, the extra `parquet`")
    return tmp_path / f"answers.{request.param}"


SETTINGS = JOB.settings()


def store(out: Path) -> Store:
    return Store(out, SETTINGS)


def journal(out: Path) -> Path:
    return out.with_name(out.name + ".journal")


def test_rows_come_back_as_they_were(out: Path) -> None:
    rows = [row("/b.mp4"), row("/a.mp4", "why? ‮"), bad("/c.mp4")]
    with store(out) as first:
        for one in rows:
            first.add(one)
        first.finish()
    assert list(read_table(out)) == sorted(rows, key=lambda one: one.key)
    assert not journal(out).exists()
    with store(out) as second:
        assert second.found == {("/b.mp4", "what?"): True, ("/a.mp4", "why? ‮"): True, ("/c.mp4", "what?"): False}


def test_a_line_torn_at_any_byte_costs_that_line_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda file: None)  # no power is lost here
    out = tmp_path / "answers.jsonl"
    whole = [(one.to_line() + "\n").encode() for one in (row("/a.mp4"), row("/b.mp4"))]
    for cut in range(len(whole[1])):
        journal(out).write_bytes(whole[0] + whole[1][:cut])
        with store(out) as found:
            assert set(found.found) == {("/a.mp4", "what?")} and found.unreadable == 0
            found.add(row("/c.mp4"))
        with store(out) as found:
            assert set(found.found) == {("/a.mp4", "what?"), ("/c.mp4", "what?")}


def test_a_line_that_is_no_row_is_counted(tmp_path: Path) -> None:
    out = tmp_path / "answers.jsonl"
    journal(out).write_bytes(f"{row('/a.mp4').to_line()}\n".encode() + b"\0\0\0\n{}\n")
    with store(out) as found:
        assert set(found.found) == {("/a.mp4", "what?")} and found.unreadable == 2


def test_a_full_disk_tears_no_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, write = tmp_path / "answers.jsonl", os.write

    def full(file: int, data: bytes) -> int:
        if len(data) < 40:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(file, data[:30])

    with store(out) as found:
        found.add(row("/a.mp4"))
        kept = journal(out).read_bytes()
        monkeypatch.setattr(os, "write", full)
        with pytest.raises(RecordsError, match="No space left"):
            found.add(row("/b.mp4"))
        assert journal(out).read_bytes() == kept
        monkeypatch.undo()
        found.add(row("/c.mp4"))
    with store(out) as found:
        assert [path for path, _ in found.found] == ["/a.mp4", "/c.mp4"] and not found.unreadable


def test_killed_between_result_and_journal(out: Path) -> None:
    with store(out) as first:
        first.add(row("/a.mp4"))
    write_table(out, [row("/a.mp4")])
    assert journal(out).exists()
    with store(out) as second:
        assert len(second.found) == 1
        second.finish()
    assert list(read_table(out)) == [row("/a.mp4")] and not journal(out).exists()


def test_a_later_row_replaces_an_error(out: Path) -> None:
    with store(out) as first:
        first.add(bad("/a.mp4"))
        first.finish()
    with store(out) as second:
        second.add(row("/a.mp4"))
        second.finish()
    assert list(read_table(out)) == [row("/a.mp4")]


def test_a_result_that_cannot_be_written_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "answers.jsonl"

    def full(old: object, new: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with store(out) as found:
        found.add(row("/a.mp4"))
        monkeypatch.setattr(os, "replace", full)
        with pytest.raises(RecordsError, match="cannot be written"):
            found.finish()
        monkeypatch.undo()
    assert sorted(path.name for path in tmp_path.iterdir()) == [".answers.jsonl.lock", "answers.jsonl.journal"]
    with store(out) as found:
        assert len(found.found) == 1


def test_two_runs_do_not_write_one_file(tmp_path: Path) -> None:
    out = tmp_path / "answers.jsonl"
    with store(out), pytest.raises(RecordsError, match="another run"), store(out):
        pass
    with store(out):
        pass


def test_another_job_is_refused_and_named(tmp_path: Path) -> None:
    out = tmp_path / "answers.jsonl"
    with store(out) as first:
        first.add(row("/a.mp4"))
    with (
        pytest.raises(RecordsError, match="frames is 4 there and 8 here"),
        Store(out, replace(JOB, frames=8).settings()),
    ):
        pass


@pytest.mark.parametrize("text", ["hello\n", "PAR1", '{"path": 3, "question": "q"}\n'])
def test_another_file_is_left_alone(out: Path, text: str) -> None:
    out.write_text(text)
    with pytest.raises(RecordsError, match="no"), store(out):
        pass
    assert out.read_text() == text


def test_wrong_names() -> None:
    with pytest.raises(OptionError, match=r"answers\.csv"):
        store(Path("answers.csv"))
    with pytest.raises(OptionError, match="no folder"):
        store(Path("nowhere/answers.jsonl"))


def test_parquet_without_pyarrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(MissingPackageError, match=r"framefusion\[parquet\].*\.jsonl"):
        store(tmp_path / "answers.parquet")
