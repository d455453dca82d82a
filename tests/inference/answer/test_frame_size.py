"""Frames are made smaller as they are decoded; the model reads what its processor would have made of whole ones."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from framefusion.core.errors import VideoTooLargeError
from framefusion.inference.answer.frame_size import ProcessorResize
from framefusion.inference.answer.prompt import build_prompt
from framefusion.inference.video import Clip, load_clip, write_clip
from tests.support.films import SIDES, assert_read_alike, film
from tests.support.seeing import checkpoint
from tests.support.tiny import FAMILIES

RESIZED = {"qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_5", "llava_onevision", "internvl", "llava_next_video"}
"""Families that must be among those whose frames are resized as they are decoded."""


@pytest.fixture(scope="module")
def clip_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clips") / "clip.mp4"
    write_clip(path, film(40), fps=10.0)
    return path


def resize_of(name: str) -> ProcessorResize | None:
    if name == "smolvlm":
        pytest.importorskip("num2words")
    return ProcessorResize.of(checkpoint(name))


@pytest.mark.parametrize("frames", [40, 9, 1])
@pytest.mark.parametrize("name", FAMILIES)
def test_the_model_reads_what_the_processor_makes_of_whole_frames(name: str, frames: int, clip_file: Path) -> None:
    resize = resize_of(name)
    if resize is None:
        assert name not in RESIZED
        return
    whole, small = (load_clip(clip_file, frames=frames, resize=one) for one in (None, resize))
    assert small.frames.shape[1:3] == (resize.size(len(whole.frames), *SIDES) or SIDES)
    assert small.timestamps == whole.timestamps and small.indices == whole.indices
    assert_alike(name, small, whole)


def assert_alike(name: str, small: Clip, whole: Clip) -> None:
    found, expected = (build_prompt(checkpoint(name), clip, "what?") for clip in (small, whole))
    assert_read_alike(found, expected)


def peak(path: Path, frames: int, resize: Any) -> int:
    """Bytes of arrays, at most, while a clip is read."""
    tracemalloc.start()
    load_clip(path, frames=frames, resize=resize)
    found = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return found


@pytest.mark.parametrize("name", ["qwen2_5_vl", "qwen3_vl", "internvl", "llava_onevision"])
def test_full_size_frames_are_never_held_together(name: str, clip_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Qwen3-VL's budget is of all frames together: the more there are, the smaller they are."""
    if name.startswith("qwen"):
        reader, most = checkpoint(name).processor.video_processor, 70 * 98 * (40 if name == "qwen3_vl" else 1)
        monkeypatch.setattr(reader, "size", type(reader.size)(shortest_edge=28 * 28, longest_edge=most))
    resize = resize_of(name)
    assert resize is not None
    whole, small = (load_clip(clip_file, frames=40, resize=one) for one in (None, resize))
    assert small.frames.nbytes * 4 < whole.frames.nbytes
    assert_alike(name, small, whole)
    one = SIDES[0] * SIDES[1] * 3
    assert peak(clip_file, 40, None) > 40 * one
    assert peak(clip_file, 40, resize) < small.frames.nbytes + 5 * one


def test_the_bound_on_pixels_is_on_what_is_kept(clip_file: Path) -> None:
    most = 20 * SIDES[0] * SIDES[1]
    with pytest.raises(VideoTooLargeError):
        load_clip(clip_file, frames=40, max_pixels=most)
    assert len(load_clip(clip_file, frames=40, max_pixels=most, resize=resize_of("internvl")).frames) == 40


class Half:
    """Halves frames, by how many there are."""

    def size(self, frames: int, height: int, width: int) -> tuple[int, int] | None:
        return (height // 2, width // 2) if frames > 4 else None

    def frame(self, picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        return np.ascontiguousarray(picture[::2, ::2])


def test_the_size_follows_from_the_number_of_frames(clip_file: Path) -> None:
    assert load_clip(clip_file, frames=8, resize=Half()).frames.shape == (8, 120, 160, 3)
    assert load_clip(clip_file, frames=3, resize=Half()).frames.shape == (3, *SIDES, 3)


def test_a_processor_that_resizes_otherwise_keeps_its_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    found = checkpoint("internvl")
    reader = type(found.processor.video_processor)
    stock = reader.resize
    monkeypatch.setattr(reader, "resize", lambda self, image, **given: 255 - stock(self, image, **given))
    assert ProcessorResize.of(found) is None
