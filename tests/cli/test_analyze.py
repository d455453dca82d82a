"""`framefusion analyze` as a user runs it."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

from framefusion.cli.app import run_app
from framefusion.inference.answer.frame_size import ProcessorResize
from framefusion.inference.video import write_clip
from tests.support.films import SIDES, film, sizes_kept
from tests.support.tiny import moving_clip, save_checkpoint


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("videos")
    for seed in range(2):
        write_clip(folder / f"{seed}.mp4", moving_clip(8, height=84, width=84, seed=seed), fps=4.0)
    return [str(folder / f"{seed}.mp4") for seed in range(2)]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("model")
    save_checkpoint("qwen2_5_vl", folder)
    return ["--model", str(folder)]


def test_the_document_and_its_threshold(
    videos: list[str], model: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_app(["analyze", *videos, *model, "--frames", "8", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    layers = shown["layers"]
    assert shown["videos"] == len(shown["medians"]) == 2
    assert len(shown["similarity"]) == len(shown["rank_correlation"]) == len(shown["rank_correlation"][0]) == layers
    assert shown["rank_correlation"][3][3] == pytest.approx(1.0)
    assert shown["recommended_threshold"] == pytest.approx(sum(shown["medians"]) / 2)
    assert len(shown["histogram_edges"]) == len(shown["similarity"][0]["histogram"]) + 1


def test_a_table_on_another_checkpoint(videos: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_checkpoint("llava_onevision", tmp_path)
    assert run_app(["analyze", videos[0], "--model", str(tmp_path), "--frames", "4"]) == 0
    shown = capsys.readouterr().out
    assert "--set similarity_lower_bound=" in shown and "median" in shown


def test_frames_are_made_smaller_one_by_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_clip(tmp_path / "clip.mp4", film(6), fps=4.0)
    save_checkpoint("internvl", tmp_path / "model")
    kept, command = sizes_kept(monkeypatch), ["analyze", str(tmp_path / "clip.mp4"), "--model", str(tmp_path / "model")]
    assert run_app([*command, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert kept and SIDES not in kept
    monkeypatch.setattr(ProcessorResize, "of", lambda checkpoint: None)
    assert run_app([*command, "--json"]) == 0
    whole = json.loads(capsys.readouterr().out)
    assert SIDES in kept
    assert found["medians"] == pytest.approx(whole["medians"], abs=0.02) and found["layers"] == whole["layers"]


@pytest.mark.skipif(importlib.util.find_spec("matplotlib") is None, reason="figures need matplotlib, the extra `plot`")
def test_a_plot(videos: list[str], model: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = tmp_path / "similarity.png"
    assert run_app(["analyze", videos[0], *model, "--frames", "8", "--plot", str(picture), "--json"]) == 0
    assert picture.read_bytes().startswith(b"\x89PNG") and picture.stat().st_size > 10_000


@pytest.mark.parametrize("arguments", [["nowhere.mp4"], [], [__file__]])
def test_wrong_use(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run_app(["analyze", *arguments]) == 2
    assert "hint:" in capsys.readouterr().err


def test_a_single_frame_has_nothing_to_compare(
    model: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_clip(tmp_path / "one.mp4", moving_clip(1), fps=4.0)
    assert run_app(["analyze", str(tmp_path / "one.mp4"), *model, "--frames", "1"]) == 2
    assert "at least two frames" in capsys.readouterr().err
