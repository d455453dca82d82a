"""The seconds that processors are told are those of the clip, whatever was sampled and how."""

import re
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from transformers.video_utils import VideoMetadata

from framefusion.inference.answer.checkpoint import load_checkpoint
from framefusion.inference.answer.moments import clips_to_try, video_options
from framefusion.inference.answer.prompt import build_prompt
from framefusion.inference.video import Clip, load_clip, write_clip
from tests.support.tiny import moving_clip, save_checkpoint

SLIDES = (0.0, 20.0, 21.0, 22.0, 300.0, 600.0)
EVEN = tuple(number * 9.9666666667 / 7 for number in range(8))
FILM = tuple(number * 1001 / 24000 * 31 for number in range(7))
LATE = (0.0, 0.033333, 0.433333, 7.7, 7.733333)
TIMES = {"slides": SLIDES, "even": EVEN, "film": FILM, "late": LATE}

WRITTEN = {
    "qwen3_vl": (r"<([\d.]+) seconds>", "mean"),
    "qwen3_5": (r"<([\d.]+) seconds>", "mean"),
    "video_llama_3": (r"Time ([\d.]+)s:", "each"),
    "smolvlm": (r"Frame from (\d+:\d+):", "clock"),
    "llava_qwen": (r"([\d.]+)s[,.](?!econ)", "two"),
}


def clip_at(times, fps=30.0):
    frames = moving_clip(len(times))
    duration = times[-1] + 1 / fps
    total = max(len(times), round(duration * fps))
    return Clip(frames, tuple(times), fps, duration, total, "clip", tuple(range(len(times))))


def expected(times, way):
    if way == "mean":
        times = [*times, *times[-1:] * (len(times) % 2)]
        return [f"{(first + second) / 2:.1f}" for first, second in list(pairwise(times))[::2]]
    if way == "clock":
        return [f"{int(time // 60):02d}:{int(time % 60):02d}" for time in times]
    return [f"{time:.1f}" if way == "each" else f"{time:.2f}" for time in times]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    built = {}

    def get(family):
        if family not in built:
            folder = tmp_path_factory.mktemp(family)
            save_checkpoint(family, folder)
            built[family] = load_checkpoint(str(folder), device="cpu")
        return built[family]

    return get


@pytest.mark.parametrize("times", TIMES)
@pytest.mark.parametrize("family", WRITTEN)
def test_the_seconds_in_the_text(checkpoint, family, times):
    pattern, way = WRITTEN[family]
    inputs = build_prompt(checkpoint(family), clip_at(TIMES[times]), "what?")
    text = checkpoint(family).processor.tokenizer.decode(inputs["input_ids"][0])
    assert re.findall(pattern, text) == expected(TIMES[times], way)


@pytest.mark.parametrize(
    ("times", "spacing"),
    [
        (EVEN, 2.847619),
        ([number / 2 for number in range(14)], 1.0),
        ([0.0, 1.0], 2.0),
        ([0.0, 1.0, 2.0, 3.0, 4.0], 2.0),
        ([number * 1001 / 30000 * 30 for number in range(6)], 2.002),
        (SLIDES, 240.0),
        ([0.0, 10.0], 20.0),
    ],
)
def test_the_seconds_per_step(checkpoint, times, spacing):
    inputs = build_prompt(checkpoint("qwen2_5_vl"), clip_at(times), "what?")
    found = inputs["second_per_grid_ts"]
    assert isinstance(found, torch.Tensor) and found.tolist() == pytest.approx([spacing], abs=1e-5)
    # The model takes the whole part of it.
    assert int(found[0]) == int(spacing)


@pytest.mark.parametrize("sample", [{"frames": 8}, {"fps": 2.0}, {"fps": 0.7}, {"frames": 3}])
@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_from_a_file_to_the_prompt(checkpoint, tmp_path, sample, name):
    import av

    write_clip(tmp_path / "a.mp4", moving_clip(66), fps=10)
    if name == "a.mkv":
        with av.open(str(tmp_path / "a.mp4")) as source, av.open(str(tmp_path / name), "w") as output:
            stream = output.add_stream_from_template(source.streams.video[0])
            for packet in source.demux(video=0):
                if packet.dts is not None:
                    packet.stream = stream
                    output.mux(packet)
    clip = load_clip(tmp_path / name, **sample)
    text = checkpoint("qwen3_vl").processor.tokenizer.decode(
        build_prompt(checkpoint("qwen3_vl"), clip, "what?")["input_ids"][0]
    )
    assert re.findall(r"<([\d.]+) seconds>", text) == expected(clip.timestamps, "mean")
    spacing = build_prompt(checkpoint("qwen2_5_vl"), clip, "what?")["second_per_grid_ts"]
    assert spacing.tolist() == pytest.approx([2 * clip.timestamps[-1] / (len(clip.frames) - 1)], abs=1e-5)


@pytest.mark.parametrize("family", ["qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_5", "qwen3_vl_moe", "video_llama_3"])
def test_one_frame_is_a_clip(checkpoint, family):
    one = clip_at((3.25,))
    inputs = build_prompt(checkpoint(family), one, "what?")
    assert inputs["video_grid_thw"][:, 0].tolist() == [1]
    text = checkpoint(family).processor.tokenizer.decode(inputs["input_ids"][0])
    assert set(re.findall(r"([\d.]+) ?s(?:econds>|:)", text)) <= {"3.2"}
    if family == "qwen3_vl":
        twice = clip_at((3.25, 3.25))
        twice.frames[1] = one.frames[0]
        again = build_prompt(checkpoint(family), twice, "what?")
        assert all(torch.equal(inputs[name], again[name]) for name in again)


def test_one_frame_from_photos_and_short_files(checkpoint, tmp_path):
    from PIL import Image

    Image.fromarray(moving_clip(1)[0]).save(tmp_path / "photo.jpg")
    write_clip(tmp_path / "one.mp4", moving_clip(1), fps=8)
    write_clip(tmp_path / "many.mp4", moving_clip(9), fps=8)
    for name, sample in (("photo.jpg", {}), ("one.mp4", {}), ("many.mp4", {"frames": 1}), ("many.mp4", {"fps": 0.1})):
        inputs = build_prompt(checkpoint("qwen3_vl"), load_clip(tmp_path / name, **sample), "what?")
        assert inputs["video_grid_thw"][0, 0] == 1


@pytest.mark.parametrize(
    ("patch", "frames", "most"), [(2, 1, 2), (4, 1, 4), (4, 3, 4), (2, 2, 2), (1, 1, 1), (None, 1, 1)]
)
def test_frames_are_repeated_up_to_one_step(patch, frames, most):
    processor = SimpleNamespace(video_processor=SimpleNamespace(temporal_patch_size=patch))
    clip = clip_at(EVEN[:frames])
    (first,), *others = clips_to_try((clip,), processor)
    assert first is clip and len(others) == (most > frames)
    for (other,) in others:
        assert len(other.frames) == len(other.timestamps) == len(other.indices) == most
        assert np.array_equal(other.frames[-1], clip.frames[-1]) and other.timestamps[-1] == clip.timestamps[-1]


def test_a_grid_for_processors_that_round_to_milliseconds():
    metadata = video_options([clip_at(FILM)], "nemotron_h_omni")["video_metadata"][0]
    assert isinstance(metadata, VideoMetadata) and metadata.fps == 1000
    assert metadata.frames_indices == [round(1000 * time) for time in FILM]
