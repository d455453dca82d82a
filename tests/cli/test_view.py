"""`framefusion view` as a user runs it."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from framefusion.cli.app import run_app
from framefusion.inference.video import write_clip
from tests.support.tiny import moving_clip, save_checkpoint


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The command with a small clip and a small checkpoint."""
    folder = tmp_path_factory.mktemp("view")
    write_clip(folder / "clip.mp4", moving_clip(frames=6, height=56, width=84), fps=4.0)
    save_checkpoint("qwen2_5_vl", folder / "model")
    return ["view", str(folder / "clip.mp4"), "What?", "--model", str(folder / "model"), "--max-new-tokens", "2"]


def test_a_page(asked: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    to = tmp_path / "page.html"
    assert run_app([*asked, "--out", str(to), "--method", "pyramiddrop", "--set", "keep=0.5"]) == 0
    assert capsys.readouterr().out.strip() == str(to)
    text = to.read_text(encoding="utf-8")
    assert text.startswith("<!doctype html>") and "PyramidDrop(keep=0.5" in text and "clip.mp4" in text


@pytest.mark.parametrize(("name", "options"), [("map.png", []), ("map.gif", []), ("map.gif", ["--animate", "frames"])])
def test_a_picture(name: str, options: list[str], asked: list[str], tmp_path: Path) -> None:
    to = tmp_path / name
    assert run_app([*asked, "--out", str(to), *options]) == 0
    with Image.open(to) as picture:
        assert picture.format == to.suffix[1:].upper() and picture.width > 500


WRONG = {
    "unknown ending": (["--out", "map.bmp"], "map.bmp", ".html"),
    "no such folder": (["--out", "nowhere/at/all.html"], "nowhere", "--out"),
    "unknown animation": (["--out", "map.gif", "--animate", "layers"], "layers", "points or frames"),
    "bad budget": (["--keep", "3"], "cost", "hint:"),
    "no new tokens": (["--max-new-tokens", "0"], "--max-new-tokens", "error:"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_use_is_told_before_anything_slow(case: str, capsys: pytest.CaptureFixture[str]) -> None:
    options, named, hint = WRONG[case]
    assert run_app(["view", "nowhere.mp4", *options]) == 2
    seen = capsys.readouterr()
    assert seen.out == "" and named in seen.err and hint in seen.err and "nowhere.mp4" not in seen.err


def test_a_model_without_a_grid_is_a_clear_error(
    asked: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A family nobody names takes each run of placeholders as one picture of unknown shape."""
    from dataclasses import replace

    from framefusion.core.registry import family_of
    from framefusion.inference.answer import checkpoint
    from framefusion.models.layout_rules import by_runs

    unknown = replace(family_of("qwen2_5_vl"), layout=by_runs)
    monkeypatch.setattr(checkpoint, "family_of_config", lambda config: unknown)
    monkeypatch.setattr("framefusion.inference.reduction.family_of_config", lambda config: unknown)
    assert run_app([*asked, "--out", str(tmp_path / "page.html")]) == 2
    seen = capsys.readouterr().err
    assert "cannot be drawn" in seen and "hint:" in seen and "Traceback" not in seen
    assert not (tmp_path / "page.html").exists()
