"""Files of one, two and three frames, and such of which an edit list shows none."""

from __future__ import annotations

import pytest

from framefusion.core.errors import EmptyVideoError
from framefusion.inference.video import load_clip

pytest.importorskip("av")

FEW = {
    "libx264": ("a.mp4", "a.mov", "a.mkv", "a.ts", "a.avi", "a.flv"),
    "mpeg2video": ("a.ts", "a.mkv"),
    "mpeg4": ("a.avi", "a.mp4"),
    "libvpx-vp9": ("a.webm",),
    "mjpeg": ("a.mov", "a.avi"),
}


@pytest.mark.parametrize(("codec", "name"), [(codec, name) for codec, names in FEW.items() for name in names])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_one_two_and_three_frames_are_read_by_every_sample(tmp_path, make, codec, name, count):
    for depth in ("0", "3") if codec in ("libx264", "mpeg2video", "mpeg4") else (None,):
        path = make.encode(tmp_path / name, make.grey(count), codec, rate=25, options=depth and {"bf": depth})
        for sample, kept in (({}, count), ({"frames": 1}, 1), ({"fps": 2.0}, 1), ({"fps": 25.0}, count)):
            clip = load_clip(path, **sample)
            assert (clip.total_frames, len(clip.frames), clip.damaged) == (count, kept, False)
            assert clip.timestamps[-1] == pytest.approx((kept - 1) / 25, abs=0.001)


@pytest.mark.parametrize(("size", "before", "after"), [(192, bytes(4), b""), (204, b"", bytes(16))])
def test_tiny_transport_streams_with_longer_packets_are_read(tmp_path, make, size, before, after):
    data = make.encode(tmp_path / "a.ts", make.grey(2), options={"bf": "0"}).read_bytes()
    packets = [before + data[at : at + 188] + after for at in range(0, len(data), 188)]
    assert len(packets[0]) == size
    (tmp_path / "b.ts").write_bytes(b"".join(packets))
    assert make.numbers(load_clip(tmp_path / "b.ts").frames) == [0, 1]


@pytest.mark.parametrize(("codec", "count"), [("mjpeg", 1), ("mjpeg", 2), ("libx264", 1), ("libx264", 2)])
def test_an_edit_list_that_shows_no_frame_is_named(tmp_path, make, codec, count):
    path = make.encode(tmp_path / "a.mov", make.grey(count), codec, rate=25)
    data = bytearray(path.read_bytes())
    place = data.index(b"elst")
    # Version 0: flags, count, length of the edit, then where it begins in the medium: after its end.
    data[place + 16 : place + 20] = (10**6).to_bytes(4, "big")
    path.write_bytes(data)
    for sample in ({}, {"fps": 2.0}):
        with pytest.raises(EmptyVideoError, match="edit list") as caught:
            load_clip(path, **sample)
        assert "ignore_editlist" in caught.value.hint
