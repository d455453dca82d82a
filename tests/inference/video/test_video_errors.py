import random
import wave

import numpy as np
import pytest

from framefusion.core.errors import (
    BrokenVideoError,
    EmptyVideoError,
    NoVideoStreamError,
    OptionError,
    VideoError,
    VideoNotFoundError,
    VideoTooLargeError,
)
from framefusion.inference.video import limits, load_clip, write_clip

av = pytest.importorskip("av")


@pytest.fixture
def clip30(tmp_path, make):
    path = tmp_path / "clip.mp4"
    write_clip(path, make.grey(30))
    return path


@pytest.fixture
def indexed_first(tmp_path, make):
    """An mp4 whose index comes first, with a key frame every five frames and pictures worth some bytes."""
    noise = np.random.default_rng(0).integers(0, 256, (30, 48, 64, 3), dtype=np.uint8)
    return make.encode(tmp_path / "f.mp4", noise, options={"g": "5"}, container_options={"movflags": "faststart"})


def test_missing_files(tmp_path, clip30):
    for path in (tmp_path / "no.mp4", clip30 / "inside.mp4", "", "a\0b.mp4", b"no.mp4"):
        with pytest.raises(VideoNotFoundError, match="no such file"):
            load_clip(path)
    with pytest.raises(FileNotFoundError):
        load_clip(tmp_path / "no.mp4")
    with pytest.raises(OptionError):
        load_clip(7.5)


def test_things_that_are_no_file_or_no_video(tmp_path, clip30):
    text, empty, cut = tmp_path / "text.mp4", tmp_path / "empty.mp4", tmp_path / "cut.mp4"
    text.write_text("this is not a video\n" * 50)
    empty.touch()
    cut.write_bytes(clip30.read_bytes()[:-200])
    (tmp_path / "noise.mp4").write_bytes(random.Random(0).randbytes(5000))
    for path in (tmp_path, "/dev/null", text, empty, cut, tmp_path / "noise.mp4"):
        with pytest.raises(BrokenVideoError) as caught:
            load_clip(path)
        assert caught.value.why and caught.value.hint and "Errno" not in str(caught.value)


def test_sound_without_pictures(tmp_path):
    with wave.open(str(tmp_path / "a.wav"), "wb") as sound:
        sound.setparams((1, 2, 8000, 0, "NONE", ""))
        sound.writeframes(b"\0\0" * 8000)
    with av.open(str(tmp_path / "a.mp4"), "w") as output:
        stream = output.add_stream("aac", rate=16000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 16000), np.float32), "fltp", "mono")
        frame.sample_rate = 16000
        output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    for name in ("a.wav", "a.mp4"):
        with pytest.raises(NoVideoStreamError, match="audio"):
            load_clip(tmp_path / name)


def test_a_stream_without_frames(tmp_path):
    with av.open(str(tmp_path / "z.avi"), "w") as output:
        stream = output.add_stream("mpeg4", rate=30)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        output.start_encoding()
    with pytest.raises(EmptyVideoError):
        load_clip(tmp_path / "z.avi")


def test_a_stream_without_decodable_frames(clip30):
    data = bytearray(clip30.read_bytes())
    start = data.index(b"mdat") + 4
    size = int.from_bytes(data[start - 8 : start - 4], "big") - 8
    data[start : start + size] = b"\xff" * size
    clip30.write_bytes(data)
    with pytest.raises(EmptyVideoError, match="can be decoded"):
        load_clip(clip30)


@pytest.mark.parametrize("thrift", [{}, {"frames": 6}, {"fps": 3.0}, {"frames": 1}])
def test_a_file_cut_off_in_the_middle_gives_what_it_has(indexed_first, thrift):
    whole = load_clip(indexed_first, frames=None)
    data = indexed_first.read_bytes()
    indexed_first.write_bytes(data[: len(data) * 6 // 10])
    clip = load_clip(indexed_first, **thrift)
    assert (clip.damaged and 1 <= len(clip.frames) <= clip.total_frames < 30) or thrift == {"frames": 1}
    assert clip.damaged and np.array_equal(clip.frames[0], whole.frames[0])
    if thrift == {"frames": 6}:
        assert len(clip.frames) == 6 and clip.indices[-1] == clip.total_frames - 1


def test_a_file_cut_off_before_its_first_frame_is_broken(indexed_first):
    data = indexed_first.read_bytes()
    indexed_first.write_bytes(data[: data.index(b"mdat") + 4])
    with pytest.raises(BrokenVideoError):
        load_clip(indexed_first)


@pytest.mark.parametrize("name", ["a.mkv", "a.webm"])
def test_a_matroska_file_cut_off_says_so(tmp_path, make, name):
    path = make.encode(tmp_path / name, make.grey(30), "libvpx" if name == "a.webm" else "libx264", options={"g": "5"})
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 7 // 10])
    clip = load_clip(path)
    assert clip.damaged and 1 < len(clip.frames) < 30


def test_a_damaged_middle_is_passed_over(indexed_first):
    whole = load_clip(indexed_first)
    data = bytearray(indexed_first.read_bytes())
    middle = (data.index(b"mdat") + len(data)) // 2
    data[middle : middle + len(data) // 10] = b"\xff" * (len(data) // 10)
    indexed_first.write_bytes(data)
    clip = load_clip(indexed_first)
    assert clip.damaged and len(clip.frames) == clip.total_frames >= 10
    assert np.array_equal(clip.frames[0], whole.frames[0]) and np.array_equal(clip.frames[-1], whole.frames[-1])
    assert clip.timestamps[-1] == pytest.approx(29 / 30)


def test_too_many_pixels_are_refused_before_decoding(clip30, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("decoded")

    monkeypatch.setattr("framefusion.inference.video.load.decode", refuse)
    with pytest.raises(VideoTooLargeError) as caught:
        load_clip(clip30, frames=10, max_pixels=10 * 48 * 64 - 1)
    assert "frames" in caught.value.hint and "max_side" in caught.value.hint and "max_pixels" in caught.value.hint


def test_the_bound_is_exact_and_max_side_or_fewer_frames_help(clip30):
    bound = 10 * 48 * 64
    assert len(load_clip(clip30, frames=10, max_pixels=bound).frames) == 10
    assert len(load_clip(clip30, frames=9, max_pixels=bound - 1).frames) == 9
    assert len(load_clip(clip30, frames=30, max_pixels=bound, max_side=32).frames) == 30


def test_a_huge_declared_size_is_refused(tmp_path):
    path = tmp_path / "huge.y4m"
    path.write_bytes(b"YUV4MPEG2 W16000 H16000 F30:1 Ip A1:1 C420jpeg\nFRAME\n" + b"x" * 100)
    with pytest.raises(VideoTooLargeError, match="16000x16000"):
        load_clip(path, max_side=16)


@pytest.mark.parametrize("by_decoder", [True, False])
def test_a_stream_that_grows_too_large_on_the_way_is_refused(tmp_path, make, monkeypatch, by_decoder):
    small = make.encode(tmp_path / "s.h264", make.grey(10)).read_bytes()
    large = make.encode(tmp_path / "l.h264", make.grey(10, 240, 320)).read_bytes()
    (tmp_path / "both.h264").write_bytes(small + large)
    monkeypatch.setattr(limits, "MAX_FRAME_PIXELS", 64 * 48 * 2)
    if not by_decoder:
        # A decoder that ignores the bound it is given: its frames are checked one by one all the same.
        monkeypatch.setattr("framefusion.inference.video.source.str", lambda _: "2147483647", raising=False)
    with pytest.raises(VideoTooLargeError, match="320x240"):
        load_clip(tmp_path / "both.h264", frames=4)


@pytest.mark.parametrize(
    ("bound", "value"), [("MAX_PACKETS", 20), ("MAX_DECODED_PIXELS", 29 * 48 * 64), ("MAX_READ_RATIO", -999)]
)
def test_endless_files_are_given_up(clip30, monkeypatch, bound, value):
    monkeypatch.setattr(limits, bound, value)
    with pytest.raises(VideoTooLargeError, match="too long") as caught:
        load_clip(clip30, frames=2)
    assert caught.value.hint


def test_a_playlist_cannot_open_other_files(tmp_path, clip30):
    (tmp_path / "list.mp4").write_text("ffconcat version 1.0\nfile clip.mp4\n")
    with pytest.raises(BrokenVideoError):
        load_clip(tmp_path / "list.mp4")


def test_a_cover_picture_is_no_video(tmp_path, make):
    def cover(stream):
        stream.disposition = av.stream.Disposition.attached_pic

    path = make.encode(tmp_path / "cover.mp4", make.grey(1), "mjpeg", prepare=cover)
    with pytest.raises(NoVideoStreamError):
        load_clip(path)


def test_running_out_of_memory_is_told(clip30, monkeypatch):
    def greedy(*_, **__):
        raise MemoryError

    monkeypatch.setattr("framefusion.inference.video.decode.np.empty", greedy)
    with pytest.raises(VideoTooLargeError, match="memory"):
        load_clip(clip30)


@pytest.mark.parametrize(
    ("name", "codec"), [("a.mp4", "libx264"), ("a.webm", "libvpx-vp9"), ("a.avi", "mpeg4"), ("a.ts", "libx264")]
)
def test_random_damage_ends_in_frames_or_in_our_errors(tmp_path, make, name, codec):
    whole = make.encode(tmp_path / name, make.grey(12), codec).read_bytes()
    path = tmp_path / f"hurt-{name}"
    for seed in range(40):
        luck, data = random.Random(seed), bytearray(whole)
        for _ in range(luck.randint(1, 30)):
            data[luck.randrange(len(data))] = luck.randrange(256)
        path.write_bytes(data[: luck.randint(len(data) // 2, len(data))] if seed % 2 else data)
        try:
            clip = load_clip(path, frames=4)
        except VideoError as error:
            assert error.what and error.why
        else:
            assert 1 <= len(clip.frames) == len(clip.timestamps) == len(clip.indices) <= 4
            assert (
                clip.indices[-1] < clip.total_frames and np.isfinite([clip.fps, clip.duration]).all() and clip.fps > 0
            )
