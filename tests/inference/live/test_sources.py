"""Files, folders and pipes as sources: every frame arrives, once, in order, whatever happens on the way."""

from __future__ import annotations

import os
import threading
import time
from itertools import islice
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from framefusion.core.errors import BrokenVideoError, EmptyVideoError, OptionError, VideoError, VideoNotFoundError
from framefusion.inference.live import Frame, LiveSource, Notice, open_source
from framefusion.inference.live.source import AHEAD
from framefusion.inference.video import load_clip
from tests.inference.live.conftest import RATE, clip_bytes, number_of, picture_of

SOON = {"patience": 0.4, "give_up": 30.0}


def read(name, fps=RATE, count=None, **waits):
    """Numbers of the frames of a source, or of the first `count`; their seconds, and kinds of notices."""
    frames, kinds = [], []
    with open_source(name, fps=fps, **{**SOON, **waits}) as source:
        for item in source:
            if isinstance(item, Notice):
                kinds.append(item.kind)
                continue
            frames.append(item)
            if len(frames) == count:
                break
    assert all(np.diff([frame.seconds for frame in frames]) > 0)
    assert len({frame.picture.shape for frame in frames}) == 1
    assert (kinds[-1:] == ["ended"]) is (count is None)
    seconds = [round(frame.seconds, 3) for frame in frames]
    return [number_of(frame.picture) for frame in frames], seconds, [kind for kind in kinds if kind != "ended"]


@pytest.fixture
def pipe(monkeypatch):
    """Writes what it is given into this process's standard input: bytes, or seconds to wait."""

    def feed(*parts):
        reading, writing = os.pipe()
        monkeypatch.setattr("sys.stdin", SimpleNamespace(fileno=lambda: reading))

        def write():
            with os.fdopen(writing, "wb", buffering=0) as file:
                for part in parts:
                    if isinstance(part, bytes):
                        file.write(part)
                    else:
                        time.sleep(part)

        threading.Thread(target=write, daemon=True).start()

    return feed


def test_a_file_gives_the_frames_that_a_clip_of_it_has(tmp_path):
    path = tmp_path / "clip.mkv"
    path.write_bytes(clip_bytes(range(25), "matroska"))
    clip = load_clip(path, frames=None, fps=4)
    with open_source(path, fps=4) as source:
        frames = [item for item in source if isinstance(item, Frame)]
    assert np.array_equal(clip.frames, np.stack([frame.picture for frame in frames]))
    assert [frame.seconds for frame in frames] == pytest.approx(clip.timestamps)


def test_frames_of_a_file_in_the_wrong_order_are_sorted(tmp_path):
    path = tmp_path / "clip.mkv"
    path.write_bytes(clip_bytes([0, 2, 1, 3, 4], "matroska", "mjpeg", stamps=[0, 2, 1, 3, 4]))
    assert read(path) == ([0, 1, 2, 3, 4], [0.0, 0.1, 0.2, 0.3, 0.4], ["late"])


def test_recordings_behind_each_other_with_another_size(tmp_path):
    path = tmp_path / "clip.ts"
    path.write_bytes(clip_bytes(range(12)) + clip_bytes(range(12, 24), size=(80, 48)))
    numbers, seconds, kinds = read(path)
    assert numbers == list(range(24)) and "resized" in kinds
    assert seconds[-1] == pytest.approx(2.3, abs=0.2)


def test_a_file_that_is_cut_off_gives_what_there_is(tmp_path):
    path, data = tmp_path / "clip.mkv", clip_bytes(range(30), "matroska", "mjpeg")
    path.write_bytes(data[: len(data) * 2 // 3])
    numbers, _, kinds = read(path)
    assert numbers == list(range(len(numbers))) and 10 < len(numbers) < 30 and kinds in ([], ["damaged"])


def test_a_source_holds_few_frames_and_ends_when_it_is_closed():
    with open_source("lavfi:testsrc=rate=25:size=64x48", fps=25) as source:
        first = list(islice(source, 3))
        time.sleep(0.3)
        assert source._queue.qsize() <= AHEAD
    assert [item.seconds for item in first] == pytest.approx([0.0, 0.04, 0.08])
    source._thread.join(2)
    assert not source._thread.is_alive()


@pytest.mark.slow
def test_a_folder_grows_while_it_is_read(tmp_path):
    def write():
        for number in range(8):
            if number == 5:
                # Half a picture, and the rest of it a little later.
                Image.fromarray(picture_of(5)).save(tmp_path / "whole.tmp", "png")
                data = (tmp_path / "whole.tmp").read_bytes()
                with (tmp_path / "frame 5.png").open("wb") as file:
                    file.write(data[:40])
                    file.flush()
                    time.sleep(0.2)
                    file.write(data[40:])
            else:
                Image.fromarray(picture_of(number)).save(tmp_path / f"frame {number}.png")
            time.sleep(0.05)

    (tmp_path / "notes.txt").write_text("no picture")
    writer = threading.Thread(target=write)
    writer.start()
    numbers, seconds, kinds = read(tmp_path, fps=2.0, count=8, give_up=5.0)  # the last one waits that long
    writer.join()
    assert numbers == list(range(8)) and seconds == [number / 2 for number in range(8)]
    assert set(kinds) <= {"stalled", "resumed"}


@pytest.mark.slow
def test_pictures_are_taken_by_their_numbers_and_a_late_one_is_told(tmp_path):
    for number in (2, 9, 10, 11):
        Image.fromarray(picture_of(number)).save(tmp_path / f"{number}.png")

    frames, kinds = [], []
    with open_source(tmp_path, fps=1.0, **SOON) as source:
        for item in source:
            if isinstance(item, Notice):
                kinds.append(item.kind)
                continue
            frames.append(number_of(item.picture))
            if len(frames) == 3:  # one waits for those behind it
                Image.fromarray(picture_of(3)).save(tmp_path / "3.png")
                Image.fromarray(picture_of(12)).save(tmp_path / "12.png")
            if len(frames) == 5:
                break
    assert frames == [2, 9, 10, 11, 3] and kinds.count("late") == 1


def test_pieces_of_video_in_a_folder_are_one_stream(tmp_path):
    for piece in range(3):
        (tmp_path / f"piece{piece}.ts").write_bytes(clip_bytes(range(10 * piece, 10 * piece + 10)))
    (tmp_path / "piece1b.mp4").write_bytes(b"no video")
    numbers, seconds, kinds = read(tmp_path, count=30, give_up=5.0)  # the last piece waits that long
    assert numbers == list(range(30)) and kinds.count("damaged") == 1
    assert seconds[-1] == pytest.approx(2.9, abs=0.1)


@pytest.mark.parametrize("form", ["mpegts", "matroska"])
def test_a_pipe_that_stalls_loses_nothing(form, pipe):
    data = clip_bytes(range(30), form)
    pipe(data[: len(data) // 2], 2.0, data[len(data) // 2 :])
    numbers, seconds, kinds = read("-")
    assert numbers == list(range(30)) and seconds == [number / RATE for number in range(30)]
    assert kinds[:2] == ["stalled", "resumed"] and set(kinds) == {"stalled", "resumed"}


def test_pictures_behind_each_other_in_a_pipe_are_frames(pipe, tmp_path):
    pictures = []
    for number in range(6):
        Image.fromarray(picture_of(number)).save(tmp_path / "one.jpg", quality=95)
        pictures.append((tmp_path / "one.jpg").read_bytes())
    pipe(*pictures)
    assert read("-", fps=100)[0] == list(range(6))


def test_a_pipe_that_is_given_up_has_ended(pipe):
    pipe(clip_bytes(range(12)), 20.0)
    numbers, _, kinds = read("-", give_up=1.5)
    assert numbers == list(range(len(numbers))) and len(numbers) >= 10 and set(kinds) <= {"stalled", "resumed"}


def test_a_file_that_stands_for_standard_input_is_read_in_any_order(tmp_path, monkeypatch):
    (tmp_path / "clip.mp4").write_bytes(clip_bytes(range(12), "mp4"))
    with (tmp_path / "clip.mp4").open("rb") as file:
        monkeypatch.setattr("sys.stdin", file)
        assert read("-")[0] == list(range(12))


def test_a_named_pipe_waits_for_its_writer(tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    threading.Timer(0.3, path.write_bytes, [clip_bytes(range(12))]).start()
    assert read(path)[0] == list(range(12))


@pytest.mark.parametrize(
    ("data", "error"),
    [(b"", EmptyVideoError), (b"these are only words " * 99, BrokenVideoError)],
    ids=["nothing", "words"],
)
def test_a_pipe_without_a_video_is_refused(data, error, pipe):
    pipe(data)
    with open_source("-", **SOON) as source, pytest.raises(error) as caught:
        source.wait()
        list(source)
    assert caught.value.hint


def test_the_keyboard_is_no_video(monkeypatch):
    monkeypatch.setattr("sys.stdin", SimpleNamespace(fileno=lambda: 0))
    monkeypatch.setattr("os.isatty", lambda descriptor: True)
    with pytest.raises(VideoError, match="keyboard"):
        open_source("-")


def test_what_is_no_source_is_refused(tmp_path):
    for name in (tmp_path / "nothing.mp4", "", "no\0name"):
        with pytest.raises(VideoNotFoundError):
            open_source(name)
    for options in ({"fps": 0}, {"fps": "fast"}, {"patience": -1}, {"max_side": 0}):
        with pytest.raises(OptionError):
            open_source(tmp_path, **options)
    (tmp_path / "words.mp4").write_text("no video")
    with open_source(tmp_path / "words.mp4") as source, pytest.raises(BrokenVideoError):
        source.wait()
    (tmp_path / "words.mp4").unlink()
    for use in (list, LiveSource.wait):
        with open_source(tmp_path, patience=0, give_up=0) as source, pytest.raises(EmptyVideoError) as caught:
            use(source)
        assert caught.value.hint
