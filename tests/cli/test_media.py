"""Pictures, folders, several media and standard input on the command line of run, view, analyze and map."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image

from framefusion.cli import media
from framefusion.cli.app import run_app
from framefusion.core.errors import OptionError
from framefusion.inference.media import temporary
from tests.support.tiny import moving_clip

SHORT = ["--max-new-tokens", "2"]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with pictures, a folder of frames and an animation, entered."""
    frames = [Image.fromarray(frame) for frame in moving_clip(frames=6, height=112, width=112)]
    frames[0].save(tmp_path / "one.jpg")
    frames[1].resize((140, 84)).save(tmp_path / "two.png")
    frames[0].save(tmp_path / "moving.gif", save_all=True, append_images=frames[1:], duration=250)
    (tmp_path / "frames").mkdir()
    for number, frame in enumerate(frames):
        frame.save(tmp_path / "frames" / f"{number}.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def answered(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict:
    assert run_app(["run", *arguments, *SHORT, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_picture(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = answered(capsys, "one.jpg", "what changed?", "--keep", "0.5")
    assert found["media"] == [{"path": "one.jpg", "kind": "picture", "width": 112, "height": 112, "frames": 1}]
    assert found["video"] is None and found["question"] == "what changed?"
    assert found["reduced"]["kept_tokens"] == found["reduced"]["visual_tokens"] // 2


def test_options_of_a_method_and_a_comparison(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = answered(capsys, "one.jpg", "what?", "--compare", "--method", "fastv", "--set", "layer=3", "--keep", "0.5")
    assert found["dense"]["visual_tokens"] == found["reduced"]["visual_tokens"] > found["reduced"]["kept_tokens"]
    assert found["method"]["name"] == "fastv" and found["method"]["layer"] == 3


def test_several_media(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = answered(capsys, "one.jpg", "moving.gif", "two.png", "frames", "what?", "--frames", "4")
    assert [entry["kind"] for entry in found["media"]] == ["picture", "video", "picture", "video"]
    assert [entry["frames"] for entry in found["media"]] == [1, 4, 1, 4]
    assert found["video"] is None


def test_a_folder_of_frames_with_its_rate(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = answered(capsys, "frames", "what?", "--frame-rate", "2")
    assert found["video"]["duration_s"] == 3 and found["video"]["total_frames"] == 6 and not found["video"]["damaged"]


def test_standard_input(here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    data = (here / "moving.gif").read_bytes()
    monkeypatch.setattr(temporary.sys, "stdin", SimpleNamespace(buffer=io.BytesIO(data), isatty=lambda: False))
    found = answered(capsys, "-", "what?")
    assert found["media"][0]["path"] == "standard input" and found["media"][0]["frames"] == 6


def test_a_page_of_pictures_and_of_a_clip_among_them(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_app(["view", "one.jpg", "moving.gif", "two.png", "what?", *SHORT, "--out", "page.html"]) == 0
    text = (here / "page.html").read_text(encoding="utf-8")
    assert "picture 1" in text and "picture 2" in text and "frame 6" in text and "one.jpg, moving.gif" in text
    assert run_app(["view", "one.jpg", *SHORT, "--out", "map.png"]) == 0
    assert Image.open("map.png").width > 500


def test_analyze_takes_folders_and_refuses_what_has_no_neighbours(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_app(["analyze", "frames", "moving.gif", "--frames", "4", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["videos"] == 2 and found["frames"] == 4
    assert run_app(["analyze", "frames", "--frames", "4"]) == 0
    assert "--frames 4" in capsys.readouterr().err
    assert run_app(["analyze", "one.jpg", "two.png"]) == 2
    assert "two frames" in capsys.readouterr().err


@pytest.mark.slow
def test_map_takes_pictures_folders_and_addresses(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = ["*.jpg", "two.png", "frames", "http://127.0.0.1:9/clip.mp4", "missing.png"]
    arguments = ["map", *names, "-q", "what changed?", "--out", "rows.jsonl", "--frame-rate", "2", *SHORT]
    assert run_app(arguments) == 0
    rows = {row["path"]: row for row in map(json.loads, Path("rows.jsonl").read_text().splitlines())}
    ours = {os.path.relpath(path, here) if path.startswith("/") else path: row for path, row in rows.items()}
    assert {name for name, row in ours.items() if row["answer"] is not None} == {"one.jpg", "two.png", "frames"}
    assert ours["http://127.0.0.1:9/clip.mp4"]["error_type"] == "AddressError"
    assert ours["missing.png"]["error_type"] == "VideoNotFoundError"
    assert ours["frames"]["duration_s"] == 3 and json.loads(ours["frames"]["settings"])["frame_rate"] == 2


@pytest.mark.parametrize("names", [["-"], ["empty"]])
def test_map_refuses_what_has_no_name_or_no_pictures(
    names: list[str], here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "empty").mkdir()
    assert run_app(["map", *names, "-q", "what?", "--out", "rows.jsonl"]) == 2
    assert "hint:" in capsys.readouterr().err


HOSTILE = ["http://127.0.0.1/x.png", "http://localhost/x.png", "file:///etc/passwd", "../../nowhere.png", "empty.png"]


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("command", ["run", "view", "analyze"])
def test_what_cannot_be_read_is_one_line(
    command: str, name: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "empty.png").touch()
    assert run_app([command, name, *(["what?"] if command != "analyze" else [])]) == 2
    seen = capsys.readouterr()
    assert seen.out == "" and "Traceback" not in seen.err and len(seen.err.strip().splitlines()) == 2


def test_offline_tells_the_hub_too(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in media.OFFLINE:
        monkeypatch.setenv(name, "0")
    assert run_app(["run", "https://example.com/x.png", "what?", "--offline"]) == 2
    assert "--offline" in capsys.readouterr().err
    assert all(os.environ[name] == "1" for name in media.OFFLINE)


def test_which_word_is_the_question(here: Path) -> None:
    assert media.media_and_question(["one.jpg", "what?"]) == (["one.jpg"], "what?")
    assert media.media_and_question(["one.jpg", "two.png"], "why?") == (["one.jpg", "two.png"], "why?")
    assert media.media_and_question(["one.jpg", "two.png", "who?"], "why?") == (["one.jpg", "two.png"], "who?")
    assert media.media_and_question(["nowhere.mp4"], "why?") == (["nowhere.mp4"], "why?")
    assert media.media_and_question(["a.mp4", "what is at http://x ?"]) == (["a.mp4"], "what is at http://x ?")
    for words in (["one.jpg"], ["clip.mp4"], ["one.jpg", "two.png"], ["one.jpg", "https://x/y.png"]):
        with pytest.raises(OptionError, match="question"):
            media.media_and_question(words)


def test_html_in_a_question_stays_text(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    question = "<script>alert(1)</script> what?"
    assert run_app(["view", "one.jpg", question, *SHORT, "--out", "page.html"]) == 0
    assert "<script>alert(1)" not in (here / "page.html").read_text(encoding="utf-8")


def test_the_note_of_the_embedded_model(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_app(["run", "one.jpg", "Bonjour?", *SHORT]) == 0
    seen = capsys.readouterr().err
    assert "kinds of questions" in seen and "no pictures" in seen
    example = Path(media.__file__).parent / "demo_clip" / "example.mp4"
    assert run_app(["run", str(example), "Which color flashed?", *SHORT]) == 0
    assert "embedded model knows" not in capsys.readouterr().err


def test_answers_stand_under_their_question(capsys: pytest.CaptureFixture[str], here: Path) -> None:
    assert run_app(["run", "one.jpg", "what changed?", "--compare", *SHORT]) == 0
    lines = capsys.readouterr().out.splitlines()
    (place,) = (number for number, line in enumerate(lines) if line.startswith("question: what changed?"))
    assert lines[place + 1].startswith("dense:") and lines[place + 2].startswith("reduced:")
