"""Pictures in a folder as the frames of a clip."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from framefusion.core.errors import OptionError, PictureError, VideoError, VideoTooLargeError
from framefusion.inference.media import MediaOptions, folder, load_media


@pytest.fixture
def frames(tmp_path: Path) -> Path:
    """Twelve frames whose grey level is their number, and files that are none of them."""
    for number in range(12):
        Image.new("RGB", (16, 8), (number,) * 3).save(tmp_path / f"frame{number}.png")
    (tmp_path / "notes.txt").write_text("no picture")
    (tmp_path / ".hidden.png").write_bytes(b"no picture either")
    (tmp_path / "folder.png").mkdir()
    return tmp_path


def levels(path: Path, **how: object) -> list[int]:
    return load_media(path, MediaOptions(**how)).frames[:, 0, 0, 0].tolist()


def test_frames_come_in_reading_order_a_second_apart(frames: Path) -> None:
    clip = load_media(frames)
    assert clip.frames.shape == (12, 8, 16, 3) and not clip.still and clip.source == str(frames)
    assert clip.frames[:, 0, 0, 0].tolist() == list(range(12))
    assert clip.timestamps == tuple(map(float, range(12))) and clip.duration == 12 and clip.total_frames == 12


def test_a_rate_says_how_fast_they_follow(frames: Path) -> None:
    clip = load_media(str(frames), MediaOptions(frames=4, frame_rate=4.0))
    assert clip.timestamps == (0, 1, 1.75, 2.75) and clip.duration == 3
    assert levels(frames, frames=3) == [0, 5, 11]
    assert levels(frames, fps=0.25) == [0, 4, 8]
    assert clip.metadata()["frames_indices"] == [0, 4, 7, 11]


def test_only_chosen_frames_are_read(frames: Path) -> None:
    (frames / "frame5.png").write_bytes(b"broken")
    assert levels(frames, frames=2) == [0, 11]
    with pytest.raises(VideoError, match=r"frame5\.png"):
        load_media(frames)


def test_pictures_of_several_sizes_are_no_clip(frames: Path) -> None:
    Image.new("RGB", (16, 9)).save(frames / "frame12.png")
    with pytest.raises(PictureError, match=r"frame12\.png has 16 x 9 pixels, the first one 16 x 8") as seen:
        load_media(frames)
    assert "name the pictures" in seen.value.hint


def test_too_many_pixels_are_refused_before_one_is_decoded(frames: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unread(name: str) -> None:
        raise AssertionError(f"{name} was read")

    monkeypatch.setattr(folder, "read_still", unread)
    monkeypatch.setattr(folder, "Bounds", lambda: folder_bounds(16 * 8 * 11))
    with pytest.raises(VideoTooLargeError):
        load_media(frames)


def folder_bounds(most: int) -> object:
    from framefusion.inference.video.limits import Bounds

    return Bounds(most)


def test_a_folder_without_pictures(tmp_path: Path) -> None:
    (tmp_path / "clip.mp4").touch()
    with pytest.raises(PictureError, match="a folder without pictures"):
        load_media(tmp_path)
    with pytest.raises(OptionError):
        MediaOptions(frame_rate=0)


@pytest.mark.parametrize("kind", ["a circle", "nothing", "a pipe", "a device", "an empty file", "a folder's circle"])
def test_what_is_no_picture_is_told_and_does_not_hang(kind: str, frames: Path) -> None:
    odd = frames / "frame12.png"
    if kind == "a pipe":
        os.mkfifo(odd)
    elif kind == "an empty file":
        odd.touch()
    else:
        to = {"a circle": odd.name, "nothing": "nowhere.png", "a device": "/dev/zero", "a folder's circle": "."}[kind]
        odd.symlink_to(to)
    if kind == "a folder's circle":  # a folder, and left out
        assert levels(frames) == list(range(12))
        return
    with pytest.raises(VideoError, match=r"frame12\.png"):
        load_media(frames)


def test_a_folder_that_may_not_be_read(frames: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(_: str) -> list[str]:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(folder.os, "listdir", refused)
    with pytest.raises(VideoError, match="Permission denied"):
        load_media(frames)


def test_names_with_and_without_numbers(tmp_path: Path) -> None:
    for name in ("b.png", "a.png", "a10.png", "a9.png", "2.png", "10.png"):
        Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(tmp_path / name)
    assert [Path(path).name for path in folder.frames_in(str(tmp_path))] == [
        "2.png",
        "10.png",
        "a.png",
        "a9.png",
        "a10.png",
        "b.png",
    ]
