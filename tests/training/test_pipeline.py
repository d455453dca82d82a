"""Every stage in turn at the smallest size, stopped and gone on with, and what comes out of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from framefusion.evaluation.synthetic_questions import samples
from framefusion.inference.answer.answer import ask
from framefusion.inference.answer.checkpoint import load_checkpoint
from framefusion.inference.answer.prompt import build_prompt
from training import language, tower
from training.export import export
from training.features import compute_features
from training.language import Stage, train_language
from training.progress import Course, load
from training.states import LOWER
from training.tower import train_tower

CLIPS, HELD_OUT = 8, 2
STAGES = [
    Stage("lower", layers=LOWER, steps=2, batch=2, questions=1, whole=0.5),
    Stage("deeper", layers=LOWER + 2, steps=3, batch=1, inside=0.5),
]


class Stopped(Exception):
    """What a user's interrupt is to a run."""


@pytest.fixture(scope="module", autouse=True)
def small() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for module in (language, tower):
            patch.setattr(module, "BETWEEN_SAVES", 1)
        patch.setattr(language, "CHECKED", HELD_OUT)
        yield


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tower of two steps, and what it made of a few clips."""
    work = tmp_path_factory.mktemp("seen")
    train_tower(work, steps=2, scenes=1, seed=0)
    compute_features(work, CLIPS, processes=1)
    return work


def begin(seen: Path, work: Path) -> Path:
    work.mkdir()
    for name in ("tower.pt", "features"):
        (work / name).symlink_to(seen / name)
    return work


@pytest.fixture(scope="module")
def straight(seen: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All stages without a stop."""
    work = begin(seen, tmp_path_factory.mktemp("straight") / "work")
    train_language(work, STAGES, CLIPS, seed=0)
    return work


def test_a_run_that_was_stopped_ends_as_one_that_was_not(seen, straight, tmp_path, monkeypatch):
    stopped = begin(seen, tmp_path / "stopped")
    advance, steps = Course.advance, []

    def stop_at_third(self, losses):
        advance(self, losses)
        steps.append(self.title)
        if steps.count("deeper") == 3:
            raise Stopped

    with monkeypatch.context() as patch, pytest.raises(Stopped):
        patch.setattr(Course, "advance", stop_at_third)
        train_language(stopped, STAGES, CLIPS, seed=0)
    assert not (stopped / "language.pt").exists() and load(stopped / "deeper-part.pt")["step"] == 2
    train_language(stopped, STAGES, CLIPS, seed=0)
    one, other = (load(work / "language.pt")["weights"] for work in (straight, stopped))
    assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
    changed = replace(STAGES[1], steps=4)
    train_language(straight, [STAGES[0], changed], CLIPS, seed=0)
    assert all(torch.equal(value, load(straight / "language.pt")["weights"][name]) for name, value in one.items()), (
        "a finished run is not begun again"
    )


def test_what_is_exported_answers_through_the_ordinary_path(straight, tmp_path):
    export(straight, tmp_path / "out", STAGES[-1].layers)
    assert (tmp_path / "out" / "model.safetensors").stat().st_size < 12e6
    checkpoint = load_checkpoint(str(tmp_path / "out"), device="cpu")
    text = checkpoint.model.config.text_config
    assert text.num_hidden_layers == STAGES[-1].layers and checkpoint.model.dtype == torch.float32
    assert 0 < checkpoint.model.config.framefusion["similarity_lower_bound"] < 1
    (sample,) = samples(1, 3)
    answer = ask(checkpoint, build_prompt(checkpoint, sample.clip(), sample.question), None, max_new_tokens=2)
    assert 0 < answer.new_tokens <= 2
