"""Seeking gives the frames that decoding everything gives, and decodes little."""

from dataclasses import fields

import numpy as np
import pytest

from framefusion.core.errors import VideoTooLargeError
from framefusion.inference.video import limits, load_clip, packets
from framefusion.inference.video import load as loading
from framefusion.inference.video.source import Source, opened
from framefusion.inference.video.stream_info import read_stream_info

av = pytest.importorskip("av")

COUNT = 720
EVEN = list(range(COUNT))
# A stretch of every frame, one of each tenth, a pause.
UNEVEN = [*range(300), *range(310, 2310, 10), *range(9000, 9220)]


def moving(count, height=32, width=48):
    """(count, height, width, 3) uint8: a bar that moves over noise, so that frames differ and need each other."""
    noise = np.random.default_rng(0).integers(0, 64, (height, width, 3), dtype=np.uint8)
    pictures = np.broadcast_to(noise, (count, height, width, 3)).copy()
    for number, picture in enumerate(pictures):
        picture[:, (number * 3) % width] = 200 + number % 50
    return pictures


def record(make, path, codec="libx264", options=None, stamps=None, **container):
    return make.encode(
        path, moving(len(stamps or EVEN)), codec, 25, stamps, options={"g": "40"} | (options or {}), **container
    )


FILES = {
    "b-frames.mp4": ("libx264", {"bf": "3"}, None),
    "b-frames.mov": ("libx264", {"bf": "3"}, None),
    "b-frames.mkv": ("libx264", {"bf": "3"}, None),
    "b-frames.ts": ("libx264", {"bf": "3"}, None),
    "b-frames.flv": ("libx264", {"bf": "3"}, None),
    "b-frames.avi": ("libx264", {"bf": "3"}, None),
    "no-b.mp4": ("libx264", {"bf": "0"}, None),
    "no-b.avi": ("libx264", {"bf": "0"}, None),
    "open.mp4": ("libx264", {"bf": "3", "x264-params": "open-gop=1:b-pyramid=normal"}, None),
    "open.mkv": ("libx264", {"bf": "3", "x264-params": "open-gop=1:b-pyramid=normal"}, None),
    "open.ts": ("libx264", {"bf": "3", "x264-params": "open-gop=1:b-pyramid=normal"}, None),
    "refresh.mkv": ("libx264", {"bf": "2", "x264-params": "intra-refresh=1"}, None),
    "refresh.mp4": ("libx264", {"bf": "2", "x264-params": "intra-refresh=1"}, None),
    "uneven.mp4": ("libx264", {"bf": "3"}, UNEVEN),
    "uneven-no-b.mp4": ("libx264", {"bf": "0"}, UNEVEN),
    "uneven.mkv": ("libx264", {"bf": "3"}, UNEVEN),
    "part4.avi": ("mpeg4", {}, None),
    "part4.mp4": ("mpeg4", {"bf": "2"}, None),
    "part2.ts": ("mpeg2video", {"bf": "2"}, None),
    "part2.mkv": ("mpeg2video", {"bf": "2"}, None),
    "each.avi": ("mjpeg", {}, None),
    "hidden.webm": ("libvpx", {"auto-alt-ref": "1", "lag-in-frames": "16"}, None),
    "nine.webm": ("libvpx-vp9", {"deadline": "realtime", "cpu-used": "8"}, None),
    "fragments.mp4": ("libx264", {"bf": "3"}, None),
    "each.mkv": ("mjpeg", {}, None),
    "part4.mkv": ("mpeg4", {"bf": "2"}, None),
}
FALLS_BACK = ("b-frames.avi", "refresh.mkv", "refresh.mp4")
SHORTER = (".mp4", ".mov", ".mkv", ".webm")
CASES = [(name, 10**9) for name in FILES] + [(name, 100) for name in FILES if name.endswith(SHORTER)]


@pytest.fixture
def counting(monkeypatch):
    """Counts packets that are decoded, and how often a file was decoded as a whole."""
    seen = {"packets": 0, "whole": 0}
    decode = loading.decode

    def whole(*arguments, **options):
        seen["whole"] += 1
        return decode(*arguments, **options)

    monkeypatch.setattr(loading, "decode", whole)
    one = Source.decoded

    def count(self, packet):
        seen["packets"] += packet is not None
        return one(self, packet)

    monkeypatch.setattr(Source, "decoded", count)
    return seen


def everything(path, clip):
    """The frames of `clip` as they come out when the file is decoded from its start."""
    found = []
    with av.open(str(path)) as container:
        for place, frame in enumerate(container.decode(video=0)):
            if place in clip.indices:
                found.append(frame.reformat(format="rgb24", interpolation="BILINEAR").to_ndarray())
    return np.stack(found), place + 1


@pytest.mark.slow
@pytest.mark.parametrize(("name", "index"), CASES)
def test_the_same_frames_bit_for_bit(tmp_path, make, monkeypatch, counting, name, index):
    codec, options, stamps = FILES[name]
    container = {"container_options": {"movflags": "frag_keyframe+empty_moov"}} if name == "fragments.mp4" else {}
    path = record(make, tmp_path / name, codec, options, stamps, **container)
    monkeypatch.setattr(packets, "INDEXED_FRAMES", index)
    for sample in ({"frames": 5}, {"fps": 0.3}, {"frames": 1}):
        counting.update(packets=0, whole=0)
        clip = load_clip(path, **sample)
        frames, total = everything(path, clip)
        assert np.array_equal(clip.frames, frames) and clip.total_frames == total == COUNT
        assert clip.timestamps == pytest.approx(np.array(stamps or EVEN)[list(clip.indices)] / 25, abs=0.0011)
        assert not clip.damaged and bool(counting["whole"]) == (name in FALLS_BACK)
        if not counting["whole"]:
            assert counting["packets"] < COUNT / 2


@pytest.mark.parametrize("sample", [{"frames": 600}, {"frames": None}, {"fps": 20.0, "frames": None}])
def test_frames_close_together_are_read_in_one_go(tmp_path, make, counting, sample):
    clip = load_clip(record(make, tmp_path / "a.mp4", options={"bf": "2"}), **sample)
    assert counting["whole"] == 1 and counting["packets"] == COUNT and len(clip.frames) >= 500


def test_an_edit_list_hides_what_is_before_it(tmp_path, make, counting):
    path = record(make, tmp_path / "a.mp4", options={"bf": "2"})
    cut = tmp_path / "cut.mp4"
    with av.open(str(path)) as source, av.open(str(cut), "w") as output:
        stream = output.add_stream_from_template(source.streams.video[0])
        found = False
        for packet in source.demux(video=0):
            found = found or (packet.is_keyframe and packet.pts > 0)
            if packet.dts is None or not found:
                continue
            packet.pts, packet.dts = packet.pts - 50 * 512, packet.dts - 50 * 512
            packet.stream = stream
            output.mux(packet)
    clip = load_clip(cut, frames=4)
    frames, total = everything(cut, clip)
    assert np.array_equal(clip.frames, frames) and clip.total_frames == total == COUNT - 50
    assert not counting["whole"]


def test_damage_that_is_met_is_told_and_what_is_left_is_read(tmp_path, make, counting):
    path = record(make, tmp_path / "a.mp4", options={"bf": "0"})
    data = bytearray(path.read_bytes())
    end = data.index(b"moov") - 4
    data[end - 400 : end] = b"\xff" * 400
    path.write_bytes(data)
    for sample in ({"frames": 4}, {"fps": 0.5}, {"frames": 1}):
        assert load_clip(path, **sample).damaged
    assert counting["whole"]


def test_only_what_is_decoded_counts_as_work(tmp_path, make, monkeypatch):
    path = record(make, tmp_path / "a.mp4")
    monkeypatch.setattr(limits, "MAX_DECODED_PIXELS", 300 * 32 * 48)
    assert len(load_clip(path, frames=4).frames) == 4
    with pytest.raises(VideoTooLargeError, match="too long to decode"):
        load_clip(path, frames=None)


def test_memory_is_that_of_the_kept_frames(tmp_path, make):
    frames = load_clip(record(make, tmp_path / "a.mp4"), frames=3).frames
    assert (frames if frames.base is None else frames.base).nbytes == 3 * 32 * 48 * 3


def test_an_index_that_says_the_wrong_times_is_not_believed(tmp_path, make, monkeypatch, counting):
    path = record(make, tmp_path / "a.mp4", options={"bf": "0"}, stamps=UNEVEN)
    monkeypatch.setattr(packets, "INDEXED_FRAMES", 100)
    by_index = packets.by_index

    def wrong(source):
        found, stamps, tail = by_index(source)
        return found, [stamps[0], *[stamp + 512 for stamp in stamps[1:]]], tail

    monkeypatch.setattr("framefusion.inference.video.stream_info.by_index", wrong)
    clip = load_clip(path, frames=6)
    assert np.array_equal(clip.frames, everything(path, clip)[0]) and not counting["whole"]
    assert clip.timestamps == pytest.approx(np.array(UNEVEN)[list(clip.indices)] / 25)


@pytest.mark.parametrize("name", [name for name in FILES if name.endswith((".mkv", ".webm"))])
def test_matroska_says_the_same_when_nobody_looks_into_the_packets(tmp_path, make, monkeypatch, name):
    codec, options, stamps = FILES[name]
    path = record(make, tmp_path / name, codec, options, stamps)
    infos, parsed = [], []
    monkeypatch.setattr(
        "framefusion.inference.video.stream_info.opened", lambda *a, **k: parsed.append(k) or opened(*a, **k)
    )
    for index in (10**9, 100):
        monkeypatch.setattr(packets, "INDEXED_FRAMES", index)
        with opened(str(path)) as source:
            infos.append(read_stream_info(source))
    slow, quick = infos
    assert parsed == ([] if "mpeg" in codec and codec != "mjpeg" else [{"parsed": False}])
    for field in fields(slow):
        if field.name != "packets":
            assert getattr(slow, field.name) == getattr(quick, field.name)
    assert (slow.packets is None) == (quick.packets is None)
    for field in fields(packets.Packets) if slow.packets else ():
        assert np.array_equal(getattr(slow.packets, field.name), getattr(quick.packets, field.name))
