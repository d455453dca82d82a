"""Every registered method is a choice of `framefusion run --method NAME --keep 0.5`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from framefusion.cli.app import run_app
from framefusion.core.registry import methods
from framefusion.inference.video import write_clip
from tests.support.tiny import moving_clip, save_checkpoint


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("methods")
    write_clip(folder / "clip.mp4", moving_clip(frames=4), fps=4.0)
    # Some need a deeper decoder than most tests have.
    save_checkpoint("llava", folder / "llava", layers=6)
    return folder


@pytest.mark.parametrize("name", list(methods))
def test_a_method_runs_by_its_name(name: str, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cls = methods.load(name)
    layer = ["--set", "layer=2"] if "layer" in cls.__dataclass_fields__ else []
    video, model = str(place / "clip.mp4"), str(place / "llava")
    arguments = ["run", video, "What?", "--model", model, "--method", name, "--keep", "0.5", "--max-new-tokens", "2"]
    assert run_app([*arguments, *layer, "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["method"]["name"] == name
    assert shown["method"][cls.facts.budget] == 0.5
    assert shown["reduced"]["visual_tokens"] == 4 * 64
    assert 0 < shown["reduced"]["kept_tokens"] <= 4 * 64


def test_a_layer_beyond_the_model_is_one_clear_line(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    video, model = str(place / "clip.mp4"), str(place / "llava")
    assert run_app(["run", video, "What?", "--model", model, "--method", "fastv", "--set", "layer=40"]) == 2
    first, second = capsys.readouterr().err.strip().splitlines()[-2:]
    assert first.startswith("error: ") and "40" in first and second.startswith("hint: ")
