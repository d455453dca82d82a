"""Files that point elsewhere, or claim what they do not hold: one of our errors each, and no other file is opened."""

from __future__ import annotations

import builtins
import os
import struct
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from framefusion.core.errors import BrokenVideoError, VideoError, VideoNotFoundError, VideoTooLargeError
from framefusion.inference.video import limits, load_clip, write_clip
from framefusion.inference.video.reader import Reader

pytest.importorskip("av")

# Bytes of files that hold next to nothing; some formats are searched to the end.
SPARSE = 2**24


@pytest.fixture
def clip(tmp_path, make):
    path = tmp_path / "secret.mp4"
    write_clip(path, make.grey(8))
    return path


POINTING = {
    "a list of parts": "ffconcat version 1.0\nfile {clip}\nduration 1\n",
    "a list of parts by protocol": "ffconcat version 1.0\nfile file:{clip}\n",
    "a live playlist": "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{clip}\n#EXT-X-ENDLIST\n",
    "a live playlist by protocol": "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile://{clip}\n#EXT-X-ENDLIST\n",
    "a playlist of playlists": '#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n{clip}\n#EXT-X-MEDIA:TYPE=AUDIO,URI="{clip}"\n',
    "a playlist with a map": '#EXTM3U\n#EXT-X-MAP:URI="{clip}"\n#EXTINF:1,\n{clip}\n#EXT-X-ENDLIST\n',
    "a playlist with a key": '#EXTM3U\n#EXT-X-KEY:METHOD=AES-128,URI="{clip}"\n#EXTINF:1,\n{clip}\n#EXT-X-ENDLIST\n',
    "a manifest": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" '
    'mediaPresentationDuration="PT1S"><Period><AdaptationSet mimeType="video/mp4"><Representation id="0" '
    'bandwidth="1"><BaseURL>{clip}</BaseURL></Representation></AdaptationSet></Period></MPD>',
    "a session": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 9 RTP/AVP 96\n"
    "a=rtpmap:96 H264/90000\n",
    "a shortcut": "[InternetShortcut]\nURL=file://{clip}\n",
    "a drawing": '<svg xmlns="http://www.w3.org/2000/svg"><image href="{clip}"/></svg>',
    "a text of a path": "{clip}\n",
}


@pytest.mark.parametrize("ending", ["mp4", "m3u8", "ffconcat", "mpd", "sdp", "mkv"])
@pytest.mark.parametrize("kind", POINTING)
def test_a_file_that_points_elsewhere_opens_nothing(kind, ending, tmp_path, clip, monkeypatch):
    path = tmp_path / f"list.{ending}"
    path.write_text(POINTING[kind].format(clip=clip))
    opened, open_ = [], builtins.open

    def watched(name, *arguments, **options):
        opened.append(os.fspath(name))
        return open_(name, *arguments, **options)

    monkeypatch.setattr(builtins, "open", watched)
    before = os.stat(clip).st_atime_ns
    with pytest.raises(VideoError) as caught:
        load_clip(path, frames=2)
    assert "hint" in str(caught.value) and str(clip) not in opened and os.stat(clip).st_atime_ns == before


@pytest.mark.parametrize(
    "form", ["concat:{0}|{0}", "file:{0}", "subfile,,start,0,end,0,,:{0}", "cache:{0}", "crypto:{0}"]
)
def test_a_name_is_no_protocol(form, clip):
    with pytest.raises(VideoNotFoundError):
        load_clip(form.format(clip))


@pytest.mark.parametrize(
    "name", ["pipe:0", "fd:0", "http://127.0.0.1:9/x.mp4", "udp://127.0.0.1:9", "data:,x", "frame%03d.png"]
)
def test_a_name_is_no_address(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(VideoNotFoundError):
        load_clip(name)


def test_pipes_devices_and_links_to_them_do_not_hang(tmp_path):
    os.mkfifo(tmp_path / "pipe.mp4")
    for name, target in (("link.mp4", tmp_path / "pipe.mp4"), ("zero.mp4", "/dev/zero"), ("self.mp4", "self.mp4")):
        (tmp_path / name).symlink_to(target)
    for name in ("pipe.mp4", "link.mp4", "zero.mp4", "self.mp4"):
        with pytest.raises(BrokenVideoError):
            load_clip(tmp_path / name)


def box(name: bytes, body: bytes, size: int | None = None) -> bytes:
    return struct.pack(">I", 8 + len(body) if size is None else size) + name + body


HEAD = box(b"ftyp", b"isom\0\0\2\0isomiso2avc1mp41")
CLAIMING = {
    "a box of 4 GiB": HEAD + box(b"moov", b"\0" * 64, 2**32 - 1),
    "a box of 8 EiB": HEAD + struct.pack(">I", 1) + b"moov" + struct.pack(">Q", 2**63 - 1) + b"\0" * 64,
    "a box within itself": HEAD + b"".join(box(b"moov", b"", 2**30) for _ in range(5_000)),
    "a picture of 2^31 sides": b"\x89PNG\r\n\x1a\n"
    + struct.pack(">I4sII5sI", 13, b"IHDR", 2**31 - 1, 2**31 - 1, b"\x08\6\0\0\0", 0),
    "an animation of 65535 sides": b"GIF89a" + struct.pack("<HH", 65535, 65535) + b"\xf7\0\0" + bytes(768) + b",",
    "frames of 30000 sides": b"YUV4MPEG2 W30000 H30000 F30:1 Ip A1:1 C420jpeg\nFRAME\n" + b"x" * 100,
    "an element of 2^56 bytes": b"\x1aE\xdf\xa3\x01" + b"\xff" * 7 + b"\x18S\x80g\x01" + b"\xff" * 7 + b"\0" * 99,
    "a list of 4 GiB": b"RIFF\xff\xff\xff\xffAVI LIST\xff\xff\xff\xffhdrlavih\xff\xff\xff\xff" + b"\xff" * 64,
    "a table of 2^32 entries": HEAD
    + box(b"moov", box(b"trak", box(b"mdia", box(b"minf", box(b"stbl", box(b"stsz", bytes(4) + b"\xff" * 12)))))),
}


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("kind", CLAIMING)
def test_a_file_that_claims_too_much_is_an_error(kind, sparse, tmp_path):
    path = tmp_path / "claims.mp4"
    path.write_bytes(CLAIMING[kind])
    if sparse:
        os.truncate(path, SPARSE)
    with pytest.raises(VideoError) as caught:
        load_clip(path, frames=4)
    assert caught.value.why


def test_a_clip_with_much_of_nothing_behind_it(tmp_path, clip, make):
    os.truncate(clip, SPARSE)
    try:
        found = load_clip(clip, frames=4)
    except VideoError as error:
        assert error.why
    else:
        assert make.numbers(found.frames) == [0, 2, 5, 7]


def test_a_sparse_file_is_no_video(tmp_path):
    path: Path = tmp_path / "sparse.mp4"
    path.touch()
    os.truncate(path, SPARSE)
    with pytest.raises(BrokenVideoError):
        load_clip(path)


SPARSE_KINDS = {
    "a.gif": "gif",
    "a.mkv": "libx264",
    "a.avi": "mpeg4",
    "a.flv": "flv",
    "a.mpg": "mpeg2video",
    "a.png": "png",
    "a.bmp": "bmp",
}


@pytest.mark.parametrize("name", SPARSE_KINDS)
def test_little_of_what_holds_nothing_is_read(name, tmp_path, make, monkeypatch):
    path, size = tmp_path / name, (96, 64)
    if name.endswith((".gif", ".png", ".bmp")):
        pictures = [Image.new("RGB", size, (40 * number, 0, 0)) for number in range(3)]
        pictures[0].save(path, **({"save_all": True, "append_images": pictures[1:]} if name == "a.gif" else {}))
    else:
        make.encode(path, make.grey(8), SPARSE_KINDS[name])
    os.truncate(path, 2**30)
    monkeypatch.setattr(limits, "MAX_BARREN_BYTES", 2**22)
    taken = Counter()
    read = Reader.read

    def count(self, size):
        data = read(self, size)
        taken["bytes"] += len(data)
        return data

    monkeypatch.setattr(Reader, "read", count)
    try:
        clip = load_clip(path, frames=4)
    except VideoError as error:
        assert error.why
    else:
        assert 1 <= len(clip.frames) <= 4
    assert taken["bytes"] < 2**28


def test_what_follows_an_animated_picture_is_left_alone(tmp_path, monkeypatch):
    path = tmp_path / "a.webp"
    pictures = [Image.new("RGB", (96, 64), (90 * number, 0, 0)) for number in range(3)]
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=100)
    os.truncate(path, 2**33)
    clip = load_clip(path)
    assert clip.total_frames == 3
    monkeypatch.setattr(limits, "MAX_PICTURE_BYTES", 20)
    with pytest.raises(VideoTooLargeError, match="animated"):
        load_clip(path)
