"""A job asks every question about every clip once, whatever the engine and earlier runs did."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from framefusion.core.errors import MissingSignalError, OptionError
from framefusion.inference.batch import Job, Row, Summary, Task, find_videos, map_videos
from framefusion.inference.batch.local import worker_count
from framefusion.inference.batch.rows import failed
from framefusion.inference.batch.table import read_table
from tests.inference.batch.rows import JOB, SETTINGS, Scripted, row

CLIPS = [f"/{name}.mp4" for name in "abcd"]
ASK = ["what?", "why?"]


def test_every_question_about_every_clip(tmp_path: Path) -> None:
    out, engine, seen = tmp_path / "a.jsonl", Scripted("/b.mp4"), []
    watch = lambda *numbers: seen.append(numbers)  # noqa: E731
    assert map_videos(JOB, CLIPS, ASK, out, engine, watch=watch) == Summary(8, 0, 8, 2, 0)
    assert [one.key for one in read_table(out)] == [(path, question) for path in CLIPS for question in ASK]
    assert seen[0] == (1, 0, 8) and seen[-1] == (8, 2, 8) and len(seen) == 8


def test_nothing_is_asked_twice(tmp_path: Path) -> None:
    out = tmp_path / "a.jsonl"
    map_videos(JOB, CLIPS[:2], ASK, out, Scripted("/b.mp4"))
    engine = Scripted()
    assert map_videos(JOB, CLIPS, ["why?", "how?"], out, engine) == Summary(8, 2, 6, 1, 0)
    assert sorted(engine.asked) == sorted(
        {(path, q) for path in CLIPS for q in ("why?", "how?")} - {("/a.mp4", "why?"), ("/b.mp4", "why?")}
    )
    assert len(list(read_table(out))) == 10
    again = Scripted()
    assert map_videos(JOB, CLIPS[:2], ASK, out, again, retry_errors=True) == Summary(4, 2, 2, 0, 0)
    assert again.asked == [("/b.mp4", "what?"), ("/b.mp4", "why?")]


def test_an_engine_that_repeats_and_loses(tmp_path: Path) -> None:
    def careless(job: Job, tasks: Sequence[Task]) -> Iterator[Row]:
        yield row("/a.mp4", answer="first")
        yield row("/a.mp4", answer="second")
        yield row("/z.mp4")

    out = tmp_path / "a.jsonl"
    assert map_videos(JOB, ["/a.mp4", "/b.mp4"], ["what?"], out, careless) == Summary(2, 0, 2, 1, 0)
    first, second = read_table(out)
    assert first.answer == "first" and second.error_type == "WorkerError" and "/b.mp4" in (second.error or "")


def test_a_run_that_breaks_off_keeps_its_rows(tmp_path: Path) -> None:
    def broken(job: Job, tasks: Sequence[Task]) -> Iterator[Row]:
        yield row("/a.mp4")
        raise KeyboardInterrupt

    out, engine = tmp_path / "a.jsonl", Scripted()
    with pytest.raises(KeyboardInterrupt):
        map_videos(JOB, CLIPS, ["what?"], out, broken)
    assert not out.exists()
    map_videos(JOB, CLIPS, ["what?"], out, engine)
    assert [path for path, _ in engine.asked] == CLIPS[1:] and len(list(read_table(out))) == 4


def test_an_error_of_the_method_ends_the_job_only_at_the_start(tmp_path: Path) -> None:
    problem = MissingSignalError("no attention", "this tower has none", "use another method")

    def unable(job: Job, tasks: Sequence[Task]) -> Iterator[Row]:
        for task in tasks:
            yield failed(task.path, "what?", problem, SETTINGS)

    out = tmp_path / "a.jsonl"
    with pytest.raises(MissingSignalError, match="this tower has none"):
        map_videos(JOB, CLIPS, ["what?"], out, unable)
    map_videos(JOB, CLIPS[:1], ["what?"], out, Scripted())
    assert map_videos(JOB, CLIPS, ["what?"], out, unable).failed == 3


def test_a_question_is_needed(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="no question"):
        map_videos(JOB, CLIPS, [" "], tmp_path / "a.jsonl", Scripted())


def test_videos_are_found_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("b.mp4", "a.mp4", "deep/er/c.mp4", "odd[1].mp4", "a.txt", "folder.mp4/x.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    names = [str(tmp_path / name) for name in ("b.mp4", "a.mp4", "deep/er/c.mp4", "odd[1].mp4", "gone.mp4")]
    assert find_videos(["b.mp4", "./b.mp4", "**/*.mp4", "odd[1].mp4", "gone.mp4"]) == names
    for pattern, why in (("*.avi", "no file"), ("deep", "is a folder")):
        with pytest.raises(OptionError, match=why):
            find_videos([pattern])
    (tmp_path / "\udcff.mp4").touch()
    with pytest.raises(OptionError, match="UTF-8"):
        find_videos(["*.mp4"])


def test_workers_are_counted() -> None:
    assert worker_count("cpu", None) == worker_count("auto", None) == 1 and worker_count(None, 3) == 3
    for device, workers in (("auto", 2), (None, 0)):
        with pytest.raises(OptionError):
            worker_count(device, workers)
