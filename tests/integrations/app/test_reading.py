"""Clips of strangers are read in a process whose memory and time are bounded."""

from __future__ import annotations

import gzip
import struct
import sys
import zipfile
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
from PIL import Image

from framefusion.core.errors import AddressError, BrokenVideoError, VideoError, VideoTooLargeError
from framefusion.inference.media import addresses
from framefusion.inference.video import load_clip, write_clip
from framefusion.integrations.app import read_apart, reading
from framefusion.integrations.app.reading import Reader

pytestmark = pytest.mark.slow
MEMORY = 3 * 2**29
FAR_TOO_LARGE = 100_000


def png(width: int, height: int) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(2**24), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def bmp(width: int, height: int) -> bytes:
    return b"BM" + struct.pack("<IHHIIiiHHIIiiII", 54, 0, 0, 54, 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0) + bytes(64)


def zipped(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("video.mp4", bytes(2**26))


@pytest.fixture
def reader(tmp_path: Path) -> Reader:
    (tmp_path / "frames").mkdir()
    return Reader(tmp_path / "frames", memory=MEMORY)


def test_a_clip_is_the_one_that_is_read_at_home(reader, tmp_path):
    write_clip(tmp_path / "clip.mp4", np.arange(8 * 48 * 64 * 3, dtype=np.uint8).reshape(8, 48, 64, 3), fps=4)
    clip, ms = reader.clip(str(tmp_path / "clip.mp4"), "mine.mp4", 3)
    same = load_clip(tmp_path / "clip.mp4", frames=3)
    assert np.array_equal(clip.frames, same.frames) and ms > 0
    for name in ("timestamps", "fps", "duration", "total_frames", "indices", "damaged"):
        assert getattr(clip, name) == getattr(same, name)
    assert clip.source == "mine.mp4" and list(reader.folder.iterdir()) == []


class Half:
    """Halves frames, and remembers what it was shown."""

    def __init__(self, fails: bool = False) -> None:
        self.shown: list[tuple[int, ...]] = []
        self.fails = fails

    def size(self, frames: int, height: int, width: int) -> tuple[int, int] | None:
        return None if height < 48 else (height // 2, width // 2)

    def frame(self, picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        if self.fails:
            raise RuntimeError("no memory on the device")
        self.shown.append(picture.shape)
        return np.ascontiguousarray(picture[::2, ::2])


@pytest.mark.parametrize("sides", [(48, 64), (32, 64)])
def test_frames_are_resized_here_one_by_one(reader, tmp_path, sides):
    frames = np.random.default_rng(0).integers(0, 255, (8, *sides, 3), np.uint8)
    write_clip(tmp_path / "clip.mp4", frames, fps=4)
    asked, at_home = Half(), Half()
    clip, _ = reader.clip(str(tmp_path / "clip.mp4"), "mine.mp4", 5, asked)
    same = load_clip(tmp_path / "clip.mp4", frames=5, resize=at_home)
    assert np.array_equal(clip.frames, same.frames) and asked.shown == at_home.shown
    assert asked.shown == ([(*sides, 3)] * 5 if sides[0] == 48 else [])


def test_an_error_of_the_resize_is_not_blamed_on_the_file(reader, tmp_path):
    write_clip(tmp_path / "clip.mp4", np.zeros((4, 48, 64, 3), np.uint8), fps=4)
    with pytest.raises(RuntimeError, match="no memory on the device"):
        reader.clip(str(tmp_path / "clip.mp4"), "mine.mp4", 4, Half(fails=True))


@pytest.mark.parametrize(
    "said",
    [
        *('{"size": [1, 99999999, 99999999]}', '{"size": [0, 8, 8]}', '{"size": [1, 8.5, 8]}', '{"size": 3}'),
        *('{"frame": [-8, 8]}', '{"frame": [99999999, 99999999]}', '{"frame": null}', "[1]", "3", "no JSON"),
    ],
)
def test_a_process_that_says_nonsense_is_not_believed(said, tmp_path, monkeypatch):
    """As one that a file has taken over."""
    program = tmp_path / "program.py"
    program.write_text(f"import sys\nprint({said!r}, flush=True)\nsys.stdin.read()\n")
    monkeypatch.setattr(reading, "_COMMAND", (sys.executable, str(program)))
    with pytest.raises(BrokenVideoError, match="cannot be read"):
        Reader(tmp_path, seconds=60).clip("x", "a.mp4", 2, Half())


@pytest.mark.parametrize("kind", ["png", "bmp", "zip", "gzip", "words"])
def test_bombs_are_refused_within_the_memory(reader, tmp_path, kind):
    path = tmp_path / "secret-place"
    write = {
        "png": lambda: path.write_bytes(png(FAR_TOO_LARGE, FAR_TOO_LARGE)),
        "bmp": lambda: path.write_bytes(bmp(FAR_TOO_LARGE, FAR_TOO_LARGE)),
        "zip": lambda: zipped(path),
        "gzip": lambda: path.write_bytes(gzip.compress(bytes(2**26))),
        "words": lambda: path.write_text("<script>alert(1)</script>" * 1000),
    }
    write[kind]()
    with pytest.raises(VideoError) as caught:
        reader.clip(str(path), "a.mp4", 64)
    error = caught.value
    assert "a.mp4" in error.what and "secret-place" not in str(error) and str(tmp_path) not in str(error)
    # Told from what the file says of itself, not because memory ran out or the process broke.
    assert "memory" not in str(error) and "ended with" not in str(error)
    if kind in ("png", "bmp"):
        assert isinstance(error, VideoTooLargeError | BrokenVideoError)


@pytest.mark.parametrize(
    "address",
    [
        *("http://127.0.0.1:9/x.mp4", "http://localhost/x", "http://[::1]/", "http://10.0.0.1/"),
        *("http://169.254.169.254/x", "file:///etc/passwd", "http://user:word@a.example/x", "ftp://a.example/x"),
        *("/etc/passwd", "-", "x"),
    ],
)
def test_only_the_public_network_is_asked(reader, address):
    with pytest.raises(AddressError):
        reader.fetch(address)
    assert list(reader.folder.iterdir()) == []


def test_a_redirect_to_this_machine_is_not_followed(tmp_path, monkeypatch):
    """The first address is taken for a public one here, the one it leads to is not."""
    asked: list[str] = []

    class Redirecting(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(302)
            self.send_header("Location", f"http://127.0.0.1:{server.server_port}/secret")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    trusted = iter([True])
    monkeypatch.setattr(addresses, "is_public", lambda address: next(trusted, False))
    with ThreadingHTTPServer(("127.0.0.1", 0), Redirecting) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        order = {"address": f"http://127.0.0.1:{server.server_port}/first", "out": str(tmp_path / "out")}
        with pytest.raises(AddressError, match="this machine"):
            read_apart.fetch(order)
        server.shutdown()
    assert asked == ["/first"]


def test_memory_is_bounded(tmp_path):
    Image.new("RGB", (8000, 8000)).save(tmp_path / "large.png", compress_level=1)
    Image.new("RGB", (80, 80)).save(tmp_path / "small.png")
    starved = Reader(tmp_path, memory=2**29)
    assert starved.clip(str(tmp_path / "small.png"), "a.png", 64)[0].frames.shape == (1, 80, 80, 3)
    with pytest.raises(VideoTooLargeError, match="memory"):
        starved.clip(str(tmp_path / "large.png"), "a.png", 64)


def test_time_is_bounded(tmp_path):
    write_clip(tmp_path / "clip.mp4", np.zeros((2, 48, 64, 3), np.uint8), fps=4)
    with pytest.raises(VideoTooLargeError, match="longer than 0 seconds"):
        Reader(tmp_path, seconds=0.001).clip(str(tmp_path / "clip.mp4"), "a.mp4", 2)


def test_a_process_that_breaks_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "_COMMAND", (sys.executable, "-m", "framefusion.nothing"))
    with pytest.raises(BrokenVideoError, match="ended with 1"):
        Reader(tmp_path).clip("x", "a.mp4", 2)
