"""Paths of videos become the frames the processor's own family would look at, whatever decoders are installed."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from framefusion.inference.video import load_clip, write_clip
from framefusion.integrations.lmms.video_processor import VideoProcessor
from tests.support.tiny import moving_clip, processor


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> str:
    file = tmp_path_factory.mktemp("video") / "clip.mp4"
    write_clip(file, moving_clip(frames=12, height=56, width=56, change=0.8), fps=4.0)
    return str(file)


def pixels(inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    return next(inputs[name] for name in ("pixel_values_videos", "pixel_values") if name in inputs)


def frames(path: str, indices: list[int]) -> np.ndarray:
    return load_clip(path, frames=None).frames[indices]


def test_frames_are_spread_over_the_video_where_no_number_is_named(path: str):
    reader = processor("llava_onevision")
    given = reader(text="<video>\nwhat?", videos=[frames(path, [0, 4, 7, 11])], return_tensors="pt")
    read = VideoProcessor(reader, 4)(text="<video>\nwhat?", images=[], videos=[path], return_tensors="pt")
    assert torch.equal(pixels(read), pixels(given)) and torch.equal(read["input_ids"], given["input_ids"])


def test_the_family_samples_as_it_does_itself(path: str):
    reader = processor("internvl")
    # From the middle of each of the four parts of the video, as InternVL does.
    given = reader(text="<video>\nwhat?", videos=[frames(path, [1, 4, 7, 10])], return_tensors="pt")
    options = {"do_sample_frames": True, "num_frames": 4, "return_tensors": "pt"}
    read = VideoProcessor(reader, 32)(text="<video>\nwhat?", videos=[path], **options)
    assert torch.equal(pixels(read), pixels(given))


def test_a_short_video_gives_what_it_has(path: str):
    read = VideoProcessor(processor("internvl"), 32)(
        text="<video>\nwhat?", videos=[path], do_sample_frames=True, num_frames=64, return_tensors="pt"
    )
    assert len(pixels(read)) == 12
    spread = VideoProcessor(processor("llava_onevision"), 64)(text="<video>\nwhat?", videos=[path], return_tensors="pt")
    assert pixels(spread).shape[1] == 12


def test_anything_but_a_path_passes_through():
    clip, reader = moving_clip(frames=4), processor("llava_onevision")
    wrapped = VideoProcessor(reader, 2)
    read = wrapped(text="<video>\nwhat?", videos=[clip], images=None, return_tensors="pt")
    assert torch.equal(pixels(read), pixels(reader(text="<video>\nwhat?", videos=[clip], return_tensors="pt")))
    assert wrapped.tokenizer is reader.tokenizer
