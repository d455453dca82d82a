"""Files of a huge apparent size that hold next to nothing: little is read of them, and the answer is one line."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from framefusion.cli.app import run_app
from framefusion.core.errors import VideoError
from framefusion.inference.video import limits, load_clip
from framefusion.inference.video.reader import Reader

pytest.importorskip("av")

APPARENT = 2**40
MOST_READ = 2**28
MOST_MEMORY = 2**31
ENDINGS = (
    "ts",
    "m2ts",
    "mpg",
    "vob",
    "mov",
    "mp4",
    "mkv",
    "webm",
    "avi",
    "flv",
    "wmv",
    "jpg",
    "png",
    "gif",
    "webp",
    "",
)
HEADS = {
    "a.ts": b"G\x40\0\x10" + b"\xff" * 184,
    "a.jpg": b"\xff\xd8\xff\xe0\0\x10JFIF\0\1\1\0\0\1\0\1\0\0",
    "a.mov": b"\0\0\0\x14ftypqt  \0\0\0\0qt  ",
    "a.mkv": b"\x1aE\xdf\xa3\x93B\x82\x88matroska",
    "a.mpg": b"\0\0\1\xba",
    "a.png": b"\x89PNG\r\n\x1a\n",
    "a.gif": b"GIF89a\x40\0\x40\0\0\0\0",
    "a.webp": b"RIFF\xff\xff\xff\xffWEBPVP8 ",
    "a.flv": b"FLV\1\1\0\0\0\x09\0\0\0\0",
    "a.y4m": b"YUV4MPEG2 W64 H64 F30:1\n",
}
HOLES = {f"a.{ending}".rstrip("."): b"" for ending in ENDINGS}
KINDS = {f"nothing, {name}": (name, b"") for name in HOLES} | {f"a head, {name}": (name, HEADS[name]) for name in HEADS}
BEGUN = {"a.ts": "mpeg2video", "b.ts": "libx264", "a.mov": "libx264", "a.mp4": "libx264", "a.webm": "libvpx-vp9"}


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Bytes that the demuxers are given, with a low bound on those without a packet."""
    monkeypatch.setattr(limits, "MAX_BARREN_BYTES", 2**22)
    counted: Counter[str] = Counter()
    read = Reader.read

    def count(self: Reader, size: int) -> bytes:
        data = read(self, size)
        counted["bytes"] += len(data)
        return data

    monkeypatch.setattr(Reader, "read", count)
    return counted


def stretched(path: Path, head: bytes) -> Path:
    path.write_bytes(head)
    os.truncate(path, APPARENT)
    return path


@pytest.mark.parametrize("kind", KINDS)
def test_what_holds_nothing_is_no_video(
    kind: str, tmp_path: Path, taken: Counter[str], capsys: pytest.CaptureFixture[str]
) -> None:
    name, head = KINDS[kind]
    path = stretched(tmp_path / name, head)
    assert run_app(["run", str(path), "what?", "--model", "framefusion/tiny", "--device", "cpu"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(":")[0] for line in lines] == ["error", "hint"] and name in lines[0]
    assert taken["bytes"] < MOST_READ


@pytest.mark.parametrize("name", [*BEGUN, "a.jpg"])
def test_what_follows_a_clip_is_not_read_to_its_end(name: str, tmp_path: Path, taken: Counter[str], make) -> None:
    path = tmp_path / name
    if name == "a.jpg":
        Image.new("RGB", (96, 64), (90, 0, 0)).save(path)
    else:
        make.encode(path, make.grey(8), BEGUN[name])
    os.truncate(path, APPARENT)
    try:
        found = load_clip(path, frames=4)
    except VideoError as error:
        assert error.why
    else:
        assert 1 <= len(found.frames) <= 4
    assert taken["bytes"] < MOST_READ


CODE = """
import sys
from framefusion.core.errors import VideoError
from framefusion.inference.video import limits, load_clip
limits.MAX_BARREN_BYTES = 2**22
for path in sys.argv[1:]:
    try:
        load_clip(path, frames=4)
    except VideoError:
        print(path)
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_apparent_size(tmp_path: Path) -> None:
    paths = [str(stretched(tmp_path / f"{number}-{name}", head)) for number, (name, head) in enumerate(KINDS.values())]

    def bounded() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, MOST_MEMORY))

    found = subprocess.run(
        [sys.executable, "-c", CODE, *paths], check=True, text=True, stdout=subprocess.PIPE, preexec_fn=bounded
    )
    assert found.stdout.split() == paths
