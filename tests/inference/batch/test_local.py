"""Worker processes on this machine, with real models and files."""

from __future__ import annotations

import json
import os
import signal
from multiprocessing import active_children
from pathlib import Path

import pytest
import torch

from framefusion.core.errors import CheckpointError
from framefusion.inference.answer import answer
from framefusion.inference.batch import Job, Row, Task
from framefusion.inference.batch.answerer import Answerer
from framefusion.inference.batch.local import answer_locally
from framefusion.inference.video import load_clip, write_clip
from framefusion.methods.uniform import Uniform
from tests.support.tiny import moving_clip, save_checkpoint


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("model")
    save_checkpoint("qwen2_5_vl", folder)
    return str(folder)


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("clips")
    for number in range(6):
        write_clip(folder / f"{number}.mp4", moving_clip(4, seed=number), 4.0)
    return [str(path) for path in sorted(folder.iterdir())]


@pytest.fixture(scope="module")
def job(model: str) -> Job:
    return Job(model, Uniform(keep=0.5), frames=4, max_new_tokens=3, device="cpu")


def _die_over_the_third_clip() -> None:
    """Run in a worker: one file takes it down, as a crash in a decoder does."""
    from framefusion.inference import media

    load = media.load_media

    def deadly(path: str, *how: object) -> object:
        if path.endswith("2.mp4"):
            os.kill(os.getpid(), signal.SIGKILL)
        return load(path, *how)

    media.load_media = deadly


@pytest.fixture(scope="module")
def rows(job: Job, clips: list[str]) -> list[Row]:
    """Of four clips, the third of which is deadly."""
    tasks = [Task(clip, ("what?", "why?")) for clip in clips[:4]]
    found = list(answer_locally(job, tasks, workers=1, prepare=_die_over_the_third_clip))
    assert not active_children()
    return found


@pytest.mark.slow
def test_a_worker_gives_the_answer_of_one_process(job: Job, clips: list[str], rows: list[Row]) -> None:
    from framefusion.inference.answer.answer import ask
    from framefusion.inference.answer.checkpoint import load_checkpoint
    from framefusion.inference.answer.prompt import build_prompt

    found = {row.key: row for row in rows if row.path == clips[0]}
    checkpoint = load_checkpoint(job.model)
    for question in ("what?", "why?"):
        inputs = build_prompt(checkpoint, load_clip(clips[0], frames=4), question)
        expected, row = ask(checkpoint, inputs, job.method, 3), found[clips[0], question]
        assert row.answer == expected.text and row.error is None
        assert (row.kept_tokens, row.visual_tokens, row.cost) == (16, 32, expected.cost) and row.kept_fraction == 0.5
        assert json.loads(row.settings)["options"]["keep"] == 0.5
    assert len(found) == 2


@pytest.mark.slow
def test_a_dead_worker_costs_one_clip(clips: list[str], rows: list[Row]) -> None:
    assert [row.path for row in rows] == [clip for clip in clips[:4] for _ in range(2)]
    dead = [row for row in rows if row.error is not None]
    assert [row.key for row in dead] == [(clips[2], "what?"), (clips[2], "why?")]
    assert all(row.error_type == "WorkerError" and row.why == "signal SIGKILL" and row.hint for row in dead)


@pytest.mark.slow
def test_a_model_that_cannot_be_loaded_ends_the_job(clips: list[str], tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="cannot load"):
        list(answer_locally(Job(str(tmp_path)), [Task(clips[0], ("what?",))]))
    assert not active_children()


def _failing(error: Exception, job: Job, clip: str, monkeypatch: pytest.MonkeyPatch) -> tuple[Answerer, Row]:
    """A worker whose model raises, and its row."""

    def ask(*arguments: object) -> object:
        raise error

    monkeypatch.setattr(answer, "ask", ask)
    worker = Answerer(job)
    (row,) = worker.rows(Task(clip, ("what?",)))
    return worker, row


def test_a_broken_device_is_noticed(job: Job, clips: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    worker, row = _failing(torch.AcceleratorError("device-side assert triggered"), job, clips[0], monkeypatch)
    assert worker.broken and row.error_type == "AcceleratorError" and "device-side" in (row.why or "")


def test_a_clip_too_large_is_a_row(job: Job, clips: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    worker, row = _failing(torch.OutOfMemoryError("tried to allocate 2 TiB"), job, clips[0], monkeypatch)
    assert not worker.broken and row.error_type == "VideoTooLargeError" and "--frames" in (row.hint or "")
