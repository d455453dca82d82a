"""Seconds of frames: stamps that are equal, missing, set back or dropped, and gaps."""

import json
import shutil
import subprocess
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from framefusion.inference.video import load_clip
from framefusion.inference.video.sampling import sample_times
from framefusion.inference.video.timeline import increasing

av = pytest.importorskip("av")
STILL_OUT = [0.0, 20.0, 21.0, 22.0, 300.0, 600.0]


def probed(path):
    """Seconds of the frames as ffprobe tells them, counted from the first."""
    if shutil.which("ffprobe") is None:
        pytest.skip("ffprobe is not installed")
    command = ["ffprobe", "-v", "error", "-select_streams", "v:0", "-show_entries", "frame=best_effort_timestamp_time"]
    text = subprocess.run([*command, "-of", "json", str(path)], capture_output=True, text=True, check=True).stdout
    times = [float(frame["best_effort_timestamp_time"]) for frame in json.loads(text)["frames"]]
    return np.array(times) - times[0]


@given(st.lists(st.none() | st.integers(-50, 5000), max_size=60), st.floats(0.1, 100))
def test_times_increase_whatever_the_stamps(stamps, step):
    times = increasing(stamps, step)
    assert len(times) == len(stamps) and (np.diff(times) > 0).all() and (not len(times) or times[0] == 0)


@given(st.lists(st.integers(1, 500), min_size=4, max_size=40), st.data())
def test_one_wrong_stamp_moves_no_other(gaps, data):
    stamps = np.cumsum(gaps).tolist()
    wrong = data.draw(st.integers(1, len(stamps) - 2))
    kind = data.draw(st.sampled_from(["missing", "equal", "first"]))
    broken = list(stamps)
    broken[wrong] = {"missing": None, "equal": stamps[wrong - 1], "first": stamps[0]}[kind]
    times, right = increasing(broken, 40.0), np.array(stamps) - stamps[0]
    others = np.arange(len(stamps)) != wrong
    assert times[others] == pytest.approx(right[others])
    assert right[wrong - 1] < times[wrong] < right[wrong + 1]


@pytest.mark.parametrize(
    ("stamps", "times"),
    [
        ([None, None, None], [0, 40, 80]),
        ([None, 100, 140], [0, 40, 80]),
        ([100, 140, None, None], [0, 40, 80, 120]),
        ([0, 40, None, None, 160], [0, 40, 80, 120, 160]),
        ([0, 0, 0, 1, 1, 1], [0, 1 / 3, 2 / 3, 1, 4 / 3, 5 / 3]),
        ([0, 40, 90000, 120, 160, 200], [0, 40, 80, 120, 160, 200]),
        ([0, 40, 80, 0, 40, 80, 120, 160], [0, 40, 80, 120, 160, 200, 240, 280]),
        ([500, 540, 580, 0, 40, 80], [0, 40, 80, 120, 160, 200]),
        ([0, 40, 5000, 5040], [0, 40, 5000, 5040]),
        ([7], [0]),
        ([], []),
    ],
)
def test_repairs(stamps, times):
    assert increasing(stamps, 40.0) == pytest.approx(times)


def test_two_frames_in_one_millisecond_cost_no_other_frame_its_time(tmp_path, make):
    # Tenths of milliseconds: Matroska rounds 800 and 804 to the same one.
    stamps = [0, 400, 800, 804, *range(20000, 600001, 29000)]
    path = make.encode(tmp_path / "a.mkv", make.grey(len(stamps)), rate=10000, pts=stamps)
    clip = load_clip(path)
    assert np.abs(np.array(clip.timestamps) - np.array(stamps) / 10000).max() < 0.05
    others = [place for place in range(len(stamps)) if place != 3]
    assert np.array(clip.timestamps)[others] == pytest.approx(np.array(stamps)[others] / 10000, abs=0.0006)
    assert len(load_clip(path, fps=0.5).frames) == 22
    assert np.abs(np.array(clip.timestamps) - probed(path)).max() <= 0.04


@pytest.mark.parametrize("frames", [None, 4, 1])
@pytest.mark.parametrize(("codec", "options"), [("libx264", {"bf": "3"}), ("mpeg4", {"bf": "2", "b": "4000000"})])
def test_frames_out_of_order_in_avi_get_the_times_of_their_ranks(tmp_path, make, codec, options, frames):
    path = make.encode(tmp_path / "b.avi", make.grey(30), codec, rate=25, options=options)
    clip = load_clip(path, frames=frames)
    assert make.numbers(clip.frames) == list(clip.indices)
    assert clip.timestamps == pytest.approx(np.array(clip.indices) / 25)
    assert clip.total_frames == 30 and clip.duration == pytest.approx(1.2) and clip.fps == 25 and not clip.damaged


@pytest.mark.parametrize("codec", ["mpeg4", "mjpeg"])
@pytest.mark.parametrize("trailing", [0, 7])
def test_dropped_frames_of_an_avi_are_no_damage(tmp_path, make, codec, trailing):
    kept = [number for number in range(25) if number % 5 not in (2, 3)]
    pictures = make.grey(25)[kept]
    path = make.encode(tmp_path / "d.avi", pictures, codec, rate=25, pts=kept, options={"b": "4000000"})
    add_empty_chunks(path, trailing)
    for options in ({}, {"frames": 3}, {"fps": 5.0}, {"frames": 1}):
        clip = load_clip(path, **options)
        assert not clip.damaged and clip.total_frames == len(kept)
        assert clip.timestamps == pytest.approx(np.array(kept)[list(clip.indices)] / 25)
        assert clip.duration == pytest.approx((25 + trailing) / 25)


def add_empty_chunks(path, count):
    """Frames dropped at the end of an AVI file without an index, as a recorder that was stopped leaves them."""
    data = bytearray(path.read_bytes())
    at = data.index(b"idx1")
    movi = data.index(b"movi") - 8
    data[at:] = b"00dc\0\0\0\0" * count
    data[movi + 4 : movi + 8] = (at - movi - 8 + 8 * count).to_bytes(4, "little")
    data[4:8] = (len(data) - 8).to_bytes(4, "little")
    for box, offset in ((b"avih", 24), (b"strh", 40)):
        place = data.index(box) + offset
        declared = int.from_bytes(data[place : place + 4], "little") + count
        data[place : place + 4] = declared.to_bytes(4, "little")
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("name", "codec", "rate"),
    [
        ("s.mp4", "libx264", 90000),
        ("s.mp4", "libx264", 600),
        ("s.mov", "mpeg4", 1000),
        ("s.mkv", "libx264", 1000),
        ("s.webm", "libvpx-vp9", 1000),
        ("s.ts", "libx264", 90000),
    ],
)
def test_slides_at_odd_times(tmp_path, make, name, codec, rate):
    stamps = [round(second * rate) for second in STILL_OUT]
    path = make.encode(tmp_path / name, make.grey(6), codec, rate=rate, pts=stamps, options={"bf": "0"})
    clip = load_clip(path)
    assert clip.timestamps == pytest.approx(STILL_OUT, abs=0.002) and make.numbers(clip.frames) == list(range(6))
    assert clip.timestamps == pytest.approx(probed(path), abs=0.002)
    metadata = clip.metadata()
    assert np.divide(metadata["frames_indices"], metadata["fps"]) == pytest.approx(clip.timestamps, abs=1e-6)
    assert metadata["frames_indices"][-1] < metadata["total_num_frames"]
    assert metadata["total_num_frames"] / metadata["fps"] == pytest.approx(clip.duration, rel=1e-3)


@pytest.mark.parametrize("rate", [Fraction(30000, 1001), Fraction(24), Fraction(25, 2), Fraction(1001, 100)])
@pytest.mark.parametrize("name", ["r.mp4", "r.mkv", "r.ts", "r.avi"])
def test_times_are_those_of_ffprobe(tmp_path, make, name, rate):
    path = tmp_path / name
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264" if name != "r.avi" else "mpeg4", rate=rate)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        for number, picture in enumerate(make.grey(20)):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = number, 1 / rate
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    clip = load_clip(path)
    assert clip.timestamps == pytest.approx(np.arange(20) / float(rate), abs=0.0011)
    assert clip.timestamps == pytest.approx(probed(path), abs=0.0011)
    metadata = clip.metadata()
    assert np.divide(metadata["frames_indices"], metadata["fps"]) == pytest.approx(clip.timestamps, abs=1e-6)


def screen_recording():
    """Seconds of motion, a still minute, motion again."""
    return np.concatenate([np.arange(150) / 30, 65 + np.arange(150) / 30])


@pytest.mark.parametrize("frames", [8, 32, 100])
@pytest.mark.parametrize("mirrored", [False, True])
def test_what_a_still_leaves_over_goes_to_all_stretches(frames, mirrored):
    times = np.concatenate([screen_recording(), 170 + np.arange(30) / 30])
    times = times[-1] - times[::-1] if mirrored else times
    chosen = np.array(sample_times(times, frames, None))
    assert len(chosen) == frames and chosen[0] == 0 and chosen[-1] == len(times) - 1
    for start, end in ((0, 150), (150, 300)) if not mirrored else ((30, 180), (180, 330)):
        inside = chosen[(chosen >= start) & (chosen < end)]
        assert len(inside) >= 0.3 * frames
        assert np.diff(inside).max() <= 2.5 * 330 / frames


def test_a_still_minute_in_a_file(tmp_path, make):
    times = np.concatenate([np.arange(12), 612 + np.arange(12)])
    path = make.encode(tmp_path / "still.mp4", make.grey(24), rate=10, pts=times.tolist(), options={"bf": "0"})
    clip = load_clip(path, frames=12)
    chosen = np.array(clip.indices)
    assert len(chosen) == 12 and (chosen < 12).sum() == 6 and make.numbers(clip.frames) == chosen.tolist()
    assert clip.timestamps == pytest.approx(times[chosen] / 10)


@pytest.mark.parametrize(("codec", "options"), [("libx264", {"bf": "0"}), ("libx264", {"bf": "2"}), ("mpeg4", {})])
def test_frames_dropped_from_an_avi_leave_the_others_their_times(tmp_path, make, codec, options):
    places = [0, 3, 5, 6, 7, 9, 11, 14, 15, 16, 17, 18, 20, 21, 26, 27, 28, 29]
    path = make.encode(tmp_path / "a.avi", make.grey(len(places)), codec, 25, places, options=options)
    clip = load_clip(path, frames=None)
    # Of the last frames of a stream with B-frames no time is known.
    known = len(places) - int(options.get("bf", 0))
    assert clip.timestamps[:known] == pytest.approx(np.array(places[:known]) / 25) and not clip.damaged
    assert np.diff(clip.timestamps).min() > 0.039
