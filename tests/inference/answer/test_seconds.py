"""The seconds every family's own processor writes or uses are those of the clip, from a file to the prompt."""

import copy
import re
from fractions import Fraction
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from framefusion.core.errors import FrameFusionError
from framefusion.core.registry import family_of_config
from framefusion.inference.answer.moments import SPACINGS
from framefusion.inference.answer.prompt import build_prompt
from framefusion.inference.video import Clip, load_clip
from framefusion.testing.conformance.prompting import marker
from framefusion.testing.conformance.prompts import VIDEO_PROCESSORS
from framefusion.testing.conformance.readers import reader_of, reading_config
from framefusion.testing.conformance.reading import OPTIONS, SAME_READER
from framefusion.testing.conformance.toy import names
from framefusion.testing.conformance.visuals import clip as pixels

av = pytest.importorskip("av")


SIDES = (56, 84)
"""MiniMax M3 takes multiples of 28 alone (transformers 5.24)."""


def mean(times, step):
    full = [*times, *times[-1:] * (-len(times) % step)]
    return [sum(full[start : start + step]) / step for start in range(0, len(full), step)]


def first(times, step):
    return times[::step]


SECONDS, CLOCK = r"([\d.]+) ?s(?:econds)?\b", r"(?:\d+:)+\d+(?:\.\d+)?"
WRITTEN = {
    # family: pattern, what stands for a step of frames, frames of a step, unit of the last digit, whether it is cut off
    **dict.fromkeys(
        (
            "qwen3_vl",
            "qwen3_vl_moe",
            "qwen3_5",
            "qwen3_5_moe",
            "qwen4_exp",
            "cosmos3_omni",
            "cohere_compass",
            "lfm3_vl",
        ),
        (SECONDS, mean, 2, 0.1, False),
    ),
    **dict.fromkeys(
        ("glm46v", "glm5_next", "glm_ocr", "glmga", "minimax_m3_vl", "muse_glimmer", "muse_spark"),
        (SECONDS, first, 2, 0.1, False),
    ),
    **dict.fromkeys(("glm4v", "glm4v_moe"), (r"<\|end_of_image\|>(\d+)", first, 2, 1.0, True)),
    "cosmos3_edge": (SECONDS, first, 1, 0.1, False),
    "video_llama_3": (SECONDS, first, 1, 0.1, False),
    "nemotron_h_omni": (SECONDS, first, 1, 0.01, False),
    "molmo2": (r"(\d+\.\d)\s*<frame_start>", first, 1, 0.1, False),
    **dict.fromkeys(("gemma4", "gemma4_unified"), (CLOCK, first, 1, 1.0, True)),
    "smolvlm": (rf"Frame from ({CLOCK})", first, 1, 1.0, True),
    "kimi_k25": (CLOCK, first, 4, 0.001, True),
}
SPACED = ("qwen2_5_vl", "qwen2_5_omni_thinker", "qwen3_omni_moe_thinker")
TIMELESS = (
    *("dots3_note", "ernie4_5_vl_moe", "exaone4_5", "hy_v4_vl", "hyperclovax_vision_v2", "instructblipvideo"),
    *("internvl", "llava_next_video", "llava_onevision", "minicpm_ocr", "minicpmv4_6", "minicpmv4_7"),
    *("perception_lm", "qwen2_vl", "video_llava"),
)
"""They tell the model no times; ERNIE 4.5 VL draws them on the frames, which needs a font."""


def takers():
    """Families of this transformers whose processor takes videos."""
    return [name for name, _ in names() if SAME_READER.get(name, name) in VIDEO_PROCESSORS | {*SAME_READER.values()}]


class Model:
    """What a prompt is completed for."""

    device, dtype = "cpu", torch.float32

    def __init__(self, config):
        self.config = config

    def forward(self, input_ids, mm_token_type_ids=None):
        raise AssertionError("no prompt runs the model")


def checkpoint_of(name):
    try:
        reader = copy.copy(reader_of(name))
        family = family_of_config(reading_config(name))
    except (LookupError, FrameFusionError) as error:
        pytest.skip(str(error))
    if getattr(reader, "video_processor", None) is None:
        pytest.skip("its processor takes no videos")
    wraps = OPTIONS.get(name, {}).get("wrap", {})
    before, after = wraps.get("video", wraps.get("all", ("", "")))
    reader.chat_template = f"see{before}{marker(name, reader, 'video')}{after}what?"
    return SimpleNamespace(name=name, processor=reader, family=family, model=Model(reading_config(name)))


def prompt(name, clip):
    checkpoint = checkpoint_of(name)
    inputs = build_prompt(checkpoint, clip, "what?")
    return inputs, checkpoint.processor.tokenizer.decode(inputs["input_ids"][0])


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """By name: samples of a plain clip, one with gaps, and one that begins late on its own clock."""
    folder = tmp_path_factory.mktemp("clips")

    def write(name, stamps, rate):
        with av.open(str(folder / name), "w") as output:
            stream = output.add_stream("libx264", rate=rate)
            (stream.height, stream.width), stream.pix_fmt = SIDES, "yuv420p"
            for stamp, picture in zip(stamps, pixels(len(stamps), *SIDES), strict=True):
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                frame.pts, frame.time_base = stamp, 1 / Fraction(rate)
                output.mux(stream.encode(frame))
            output.mux(stream.encode(None))
        return folder / name

    plain = write("plain.mp4", range(100), 10)
    slides = write("slides.mkv", [number * 5 for number in (0, 20, 21, 22, 300, 600)], 5)
    late = write("late.mp4", range(150, 198), Fraction(12000, 1001))
    return {
        "plain": load_clip(plain, frames=8),
        "gaps": load_clip(slides),
        "late": load_clip(late, frames=6),
        "one frame": load_clip(plain, frames=1),
        "one of a later time": one_at(7.25),
        "two a second": load_clip(plain, fps=2.0),
        "odd": load_clip(plain, frames=7),
    }


def one_at(seconds):
    return Clip(pixels(1, *SIDES), (seconds,), 4.0, seconds + 0.25, 30, "a", (29,))


CLIPS = ("plain", "gaps", "late", "one frame", "one of a later time", "two a second", "odd")


def test_the_clips_are_what_they_should_be(clips):
    assert clips["gaps"].timestamps == pytest.approx([0, 20, 21, 22, 300, 600])
    assert clips["plain"].timestamps == pytest.approx(np.linspace(0, 9.9, 8), abs=0.1)
    assert clips["two a second"].timestamps == pytest.approx([number / 2 for number in range(20)])
    assert clips["late"].timestamps == pytest.approx(np.linspace(0, 47 * 1001 / 12000, 6), abs=0.084)
    assert [len(clips[name].frames) for name in ("one frame", "odd")] == [1, 7] and set(clips) == set(CLIPS)


def read(text):
    """Seconds of `7.5` and of `01:02:03.5`."""
    total = 0.0
    for part in text.split(":"):
        total = 60 * total + float(part)
    return total


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(WRITTEN))
def test_the_seconds_written_are_the_clips(name, clips):
    pattern, stands, step, unit, cut_off = WRITTEN[name]
    for clip in clips.values():
        _, text = prompt(name, clip)
        told = np.array([read(found) for found in re.findall(pattern, text)])
        true = np.array(stands(clip.timestamps, step))
        assert told.shape == true.shape, text
        lag = true - told
        # 1e-5: a place on a grid of microseconds may be on the other side of a whole second.
        assert (-1e-5 if cut_off else -unit / 2 - 1e-5) <= lag.min()
        assert lag.max() <= (unit if cut_off else unit / 2) + 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("name", SPACED)
def test_the_seconds_per_step_are_the_clips(name, clips):
    for clip in clips.values():
        inputs, _ = prompt(name, clip)
        (told,) = [inputs[key].item() for key in SPACINGS if key in inputs]
        if len(clip.frames) > 1:
            assert told == pytest.approx(2 * np.mean([after - before for before, after in pairwise(clip.timestamps)]))
        else:
            assert inputs["video_grid_thw"][0, 0] == 1


@pytest.mark.slow
@pytest.mark.parametrize("name", takers())
def test_who_is_told_the_time(name):
    """The same frames at other times make another prompt for just those that the tables above say."""
    times = (0.0, 1.0, 2.0, 3.0, 4.0, 5.0), (0.0, 61.0, 75.0, 300.0, 800.0, 3800.0)
    frames = pixels(6, *SIDES)
    clips = [Clip(frames, at, 30.0, at[-1] + 0.1, 200_000, "a", tuple(range(6))) for at in times]
    (one, _), (other, _) = (prompt(name, clip) for clip in clips)
    same = one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)
    assert same == (name in TIMELESS) != (name in WRITTEN or name in SPACED)


def test_the_seconds_drawn_on_the_frames(clips, monkeypatch):
    drawn = []
    checkpoint = checkpoint_of("ernie4_5_vl_moe")
    reader = checkpoint.processor.video_processor = copy.copy(checkpoint.processor.video_processor)
    reader.draw_on_frames = True
    monkeypatch.setattr(
        type(reader), "_render_image_with_timestamp", lambda self, image, text, *_: drawn.append(text) or image
    )
    for name in CLIPS:
        drawn.clear()
        build_prompt(checkpoint, clips[name], "what?")
        times = [read(text.removeprefix("time: ")) for text in drawn]
        assert times == pytest.approx(clips[name].timestamps, abs=0.006)
