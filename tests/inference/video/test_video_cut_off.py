"""What counts as a copy that was cut off, and what does not."""

import numpy as np
import pytest

from framefusion.inference.video import load_clip
from framefusion.inference.video.source import Source

av = pytest.importorskip("av")

CUT_OFF = {
    "fragments.mp4": {"container_options": {"movflags": "frag_keyframe+empty_moov"}},
    "first.mp4": {"container_options": {"movflags": "faststart"}},
    "a.mkv": {},
    "a.ts": {},
    "a.flv": {},
    "a.avi": {},
    "a.wmv": {},
}


@pytest.mark.parametrize("name", CUT_OFF)
@pytest.mark.parametrize("share", [0.35, 0.62, 0.9])
def test_the_verdict_on_a_copy_cut_off_is_that_of_every_sample(tmp_path, make, name, share):
    noise = np.random.default_rng(0).integers(0, 256, (60, 48, 64, 3), dtype=np.uint8)
    path = make.encode(tmp_path / name, noise, options={"g": "5"}, **CUT_OFF[name])
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    samples = ({}, {"frames": 8}, {"fps": 2.0}, {"fps": 0.1}, {"frames": 1}, {"frames": None})
    clips = [load_clip(path, **sample) for sample in samples]
    assert len({(clip.damaged, clip.total_frames, clip.duration) for clip in clips}) == 1
    # A transport stream ends anywhere, and what is cut from Matroska is told by a tenth of the declared length.
    assert clips[0].damaged or name == "a.ts" or (name == "a.mkv" and share == 0.9)


def test_fragments_that_end_whole_are_the_same_clip_for_every_sample(tmp_path, make):
    path = make.encode(tmp_path / "f.mp4", make.grey(30), options={"g": "5"}, **CUT_OFF["fragments.mp4"])
    data = path.read_bytes()
    for fragment in (2, 4):
        at = -1
        for _ in range(fragment + 1):
            at = data.index(b"moof", at + 1)
        path.write_bytes(data[: at - 4])
        clips = [load_clip(path, **sample) for sample in ({}, {"frames": 8}, {"fps": 2.0}, {"frames": 1})]
        assert len({(clip.damaged, clip.total_frames) for clip in clips}) == 1
        assert clips[0].total_frames == 5 * fragment


@pytest.mark.parametrize(
    "flags", ["frag_keyframe+empty_moov", "frag_every_frame+empty_moov", "frag_keyframe+delay_moov"]
)
def test_fragments_cut_off_anywhere_are_the_whole_ones_before(tmp_path, make, flags):
    path = make.encode(tmp_path / "f.mp4", make.grey(20), options={"g": "5"}, container_options={"movflags": flags})
    data = path.read_bytes()
    start = data.index(b"moof", data.index(b"moof", data.index(b"moof") + 4) + 4) - 4
    index, rest = (int.from_bytes(data[at : at + 4], "big") for at in (start, data.index(b"mdat", start) - 4))
    before = 2 if "every" in flags else 10
    for length in (*range(8, index + 1, 4), index + 1, index + 9, index + rest - 1):
        path.write_bytes(data[: start + length])
        clips = [load_clip(path, **sample) for sample in ({"frames": 8}, {"fps": 2.0}, {"frames": 1})]
        assert len({(clip.damaged, clip.total_frames) for clip in clips}) == 1
        assert clips[0].damaged and before <= clips[0].total_frames < before + 5
        assert length > index or clips[0].total_frames == before


@pytest.mark.slow
def test_a_cut_off_stream_is_told_in_every_run(tmp_path, make):
    noise = np.random.default_rng(0).integers(0, 256, (60, 48, 64, 3), dtype=np.uint8)
    data = make.encode(tmp_path / "a.ts", noise, options={"g": "5"}).read_bytes()
    for share in (0.31, 0.38, 0.62, 0.74, 0.95):
        (tmp_path / "cut.ts").write_bytes(data[: int(len(data) * share)])
        assert all(load_clip(tmp_path / "cut.ts", frames=count).damaged for count in (1, 8, 64) * 4)


@pytest.mark.parametrize("name", ["a.ts", "a.h264", "a.mp4"])
def test_threads_do_not_tell_where_a_stream_without_a_length_ends(tmp_path, make, monkeypatch, name):
    kinds, frames = set(), Source.frames
    monkeypatch.setattr(Source, "frames", lambda self, kind: kinds.add(kind) or frames(self, kind))
    path = make.encode(tmp_path / name, make.grey(20))
    assert not load_clip(path).damaged and kinds == {"AUTO" if name == "a.mp4" else "SLICE"}
    noise = np.random.default_rng(0).integers(0, 256, (20, 48, 64, 3), dtype=np.uint8)
    # With one thread the encoder writes the same bytes every time, and the cut falls within a frame.
    path = make.encode(tmp_path / name, noise, options={"threads": "1"})
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 7 // 10] if name != "a.mp4" else path.read_bytes())
    assert load_clip(path, frames=3).damaged == (name != "a.mp4")


@pytest.mark.parametrize("name", ["late.mkv", "late.ts", "late.mp4", "late.flv"])
def test_a_clip_that_begins_late_is_whole(tmp_path, make, name):
    path = make.encode(tmp_path / name, make.grey(30), pts=range(300, 330))
    clip = load_clip(path)
    assert not clip.damaged and clip.total_frames == 30 and clip.timestamps[-1] == pytest.approx(29 / 30, abs=0.002)


@pytest.mark.parametrize("name", ["a.flv", "a.ts", "a.mp4", "a.mov", "a.mkv", "a.avi", "fragments.mp4"])
@pytest.mark.parametrize("late", [0, 70])
@pytest.mark.parametrize("depth", ["0", "3"])
def test_few_frames_are_not_a_file_cut_off(tmp_path, make, name, late, depth):
    options = {"movflags": "frag_every_frame+empty_moov"} if name == "fragments.mp4" else {}
    for stamps in ([0, 1, 2], [0, 1, 2, 5, 6, 8, 9]):
        late = 0 if name == "a.avi" else late
        pts = [late + stamp for stamp in stamps]
        path = make.encode(
            tmp_path / name, make.grey(len(pts)), rate=15, pts=pts, options={"bf": depth}, container_options=options
        )
        clip = load_clip(path)
        assert clip.total_frames == len(pts) and not clip.damaged


@pytest.mark.parametrize(("name", "codec"), [("a.wmv", "wmv2"), ("a.asf", "mpeg4"), ("a.mp4", "mpeg4")])
def test_a_file_without_a_rate_is_not_cut_off(tmp_path, make, name, codec):
    for count in (1, 2, 3):
        clip = load_clip(make.encode(tmp_path / name, make.grey(count), codec, rate=25))
        assert clip.total_frames == count and not clip.damaged
        assert clip.duration == pytest.approx(count / 25) and clip.fps == pytest.approx(25)
    path = make.encode(tmp_path / name, make.grey(3), codec, rate=5, pts=[0, 100, 500])
    assert not load_clip(path).damaged


def test_frames_that_an_edit_list_leaves_out_are_not_missing(tmp_path, make):
    path = make.encode(tmp_path / "a.mp4", make.grey(30), rate=30, options={"g": "10", "bf": "2"})
    data = bytearray(path.read_bytes())
    place = data.index(b"elst")
    # Version 0: flags, count, then length of the edit in units of the movie, and where it begins in the medium.
    data[place + 12 : place + 16] = (500).to_bytes(4, "big")
    path.write_bytes(data)
    clip = load_clip(path)
    assert clip.total_frames < 20 and not clip.damaged
