"""Standard input, several media at once, and names that are of nothing."""

from __future__ import annotations

import io
import os
import tempfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from framefusion.core.errors import BrokenVideoError, OptionError, VideoError, VideoNotFoundError, VideoTooLargeError
from framefusion.inference.media import load, load_all, load_media, names, temporary
from framefusion.inference.video import write_clip


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    Image.new("RGB", (16, 8), (7, 7, 7)).save(tmp_path / "picture.png")
    return tmp_path / "picture.png"


def give(monkeypatch: pytest.MonkeyPatch, data: bytes, keyboard: bool = False) -> None:
    stand_in = SimpleNamespace(buffer=io.BytesIO(data), isatty=lambda: keyboard)
    monkeypatch.setattr(temporary.sys, "stdin", stand_in)


def left_over() -> set[str]:
    return {name for name in os.listdir(tempfile.gettempdir()) if name.startswith("framefusion-")}


def test_standard_input_is_read_like_a_file(picture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = left_over()
    give(monkeypatch, picture.read_bytes())
    clip = load_media("-")
    assert clip.still and clip.source == "standard input" and clip.frames.shape == (1, 8, 16, 3)
    write_clip(tmp_path / "x.mp4", np.zeros((4, 8, 16, 3), np.uint8), fps=4)
    give(monkeypatch, (tmp_path / "x.mp4").read_bytes())
    assert len(load_media("-").frames) == 4
    assert left_over() == before


def test_standard_input_that_cannot_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    before = left_over()
    give(monkeypatch, b"", keyboard=True)
    with pytest.raises(BrokenVideoError, match="keyboard"):
        load_media("-")
    for data in (b"", b"no picture at all"):
        give(monkeypatch, data)
        with pytest.raises(VideoError, match="standard input") as seen:
            load_media("-")
        assert tempfile.gettempdir() not in str(seen.value)
    monkeypatch.setattr(temporary.sys, "stdin", None)
    with pytest.raises(BrokenVideoError, match="closed"):
        load_media("-")
    give(monkeypatch, bytes(1000))
    monkeypatch.setattr(temporary, "MAX_BYTES", 999)
    with pytest.raises(VideoTooLargeError):
        load_media("-")
    assert left_over() == before


def test_standard_input_is_named_once(picture: Path) -> None:
    with pytest.raises(OptionError, match="twice"):
        load_all(["-", picture, "-"])


def test_several_together_have_one_bound(picture: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert [clip.still for clip in load_all([picture, str(picture)])] == [True, True]
    monkeypatch.setattr(load, "DEFAULT_MAX_PIXELS", 2 * 16 * 8 - 1)
    with pytest.raises(VideoTooLargeError, match="together"):
        load_all([picture, picture])


@pytest.mark.parametrize("name", ["nowhere.png", "", "a\0b", "picture.png/x"])
def test_no_such_file(name: str) -> None:
    with pytest.raises(VideoNotFoundError):
        load_media(name)


@pytest.mark.parametrize("name", [7, None, 1.5])
def test_no_name(name: object) -> None:
    with pytest.raises(OptionError):
        load_media(name)  # type: ignore[arg-type]


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(BrokenVideoError, match="not a regular file"):
        load_media(tmp_path / "pipe")


def test_addresses_are_told_from_paths() -> None:
    addresses = ("http://x/y", "HTTPS://x", "ftp://x", "file:///x", "data:image/png;base64,AA")
    assert all(map(names.is_address, addresses))
    paths = ("clip.mp4", "./http.png", "C:\\clip.mp4", "a:b.png", "-", "what: a clip?", "data: what is it?")
    assert not any(map(names.is_address, paths))
