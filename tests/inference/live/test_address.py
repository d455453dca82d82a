"""Network streams: a real FFmpeg serves a clip on loopback, is killed and comes back."""

from __future__ import annotations

import http.server
import shutil
import subprocess
import threading
import time
from functools import partial

import numpy as np
import pytest

from framefusion.core.errors import BrokenVideoError
from framefusion.inference.live import Frame, Notice, open_source
from framefusion.inference.live.address import is_address, without_secret
from tests.inference.live.conftest import RATE, clip_bytes, number_of
from tests.support.served import free_port

FFMPEG = shutil.which("ffmpeg")
needs_ffmpeg = pytest.mark.skipif(FFMPEG is None, reason="there is no ffmpeg that could serve a stream")


class Server:
    """FFmpeg that serves a transport stream to one client at a time, in real time."""

    def __init__(self, folder) -> None:
        self.port, self.folder, self.process = free_port(), folder, None

    @property
    def address(self) -> str:
        return f"tcp://127.0.0.1:{self.port}"

    def serve(self, numbers) -> None:
        clip = self.folder / "clip.ts"
        clip.write_bytes(clip_bytes(numbers))
        command = [FFMPEG, "-v", "error", "-re", "-i", str(clip), "-c", "copy", "-f", "mpegts"]
        self.process = subprocess.Popen([*command, f"{self.address}?listen=1"], stdin=subprocess.DEVNULL)

    def cut(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture
def server(tmp_path):
    server = Server(tmp_path)
    yield server
    if server.process is not None:
        server.cut()


@needs_ffmpeg
@pytest.mark.slow
def test_a_connection_that_is_cut_and_comes_back(server):
    frames: list[Frame] = []
    kinds: list[str] = []
    server.serve(range(60))
    with open_source(server.address, fps=RATE, patience=20, give_up=3) as source:
        for item in source:
            if isinstance(item, Notice):
                kinds.append(item.kind)
                continue
            frames.append(item)
            if len(frames) == 12 and "cut" not in kinds:
                server.cut()
                server.serve(range(0, 20))
    numbers = [number_of(frame.picture) for frame in frames]
    first = numbers.index(0, 1)
    assert first >= 12 and numbers[:first] == list(range(first))
    assert numbers[first:] == list(range(20))
    assert all(np.diff([frame.seconds for frame in frames]) > 0)
    assert [kind for kind in kinds if kind in ("cut", "back", "ended")] == ["cut", "back", "cut", "ended"]


@needs_ffmpeg
@pytest.mark.slow
def test_a_server_that_starts_late_is_waited_for(server):
    threading.Timer(0.6, server.serve, [range(10)]).start()
    with open_source(server.address, fps=RATE, patience=20, give_up=1) as source:
        source.wait()
        frames = [item for item in source if isinstance(item, Frame)]
    assert [number_of(frame.picture) for frame in frames] == list(range(10))


def test_nobody_there():
    address = f"tcp://127.0.0.1:{free_port()}"
    with open_source(address, patience=0.3, give_up=0.3) as source, pytest.raises(BrokenVideoError) as caught:
        source.wait()
    assert "refused" in caught.value.why
    assert caught.value.hint


@pytest.mark.parametrize("name", ["nowhere://127.0.0.1/x", "lavfi:no_such_filter", "rtsp://127.0.0.1:1/door"])
def test_what_ffmpeg_cannot_open_is_refused(name):
    with open_source(name, patience=0, give_up=1) as source, pytest.raises(BrokenVideoError):
        source.wait()


@pytest.fixture
def website(tmp_path):
    """A folder that is served over HTTP, and its address."""
    folder = tmp_path / "site"
    folder.mkdir()
    quiet = type("Quiet", (http.server.SimpleHTTPRequestHandler,), {"log_message": lambda *_: None})
    site = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(quiet, directory=str(folder)))
    threading.Thread(target=site.serve_forever, daemon=True).start()
    yield folder, f"http://127.0.0.1:{site.server_port}"
    site.shutdown()


def playlist(place):
    return f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{place}\n#EXT-X-ENDLIST\n"


@pytest.mark.slow
def test_a_playlist_on_the_network_leads_to_its_pieces_and_to_no_file_of_ours(website, tmp_path):
    folder, address = website
    (folder / "piece.ts").write_bytes(clip_bytes(range(10)))
    (folder / "good.m3u8").write_text(playlist("piece.ts"))
    with open_source(f"{address}/good.m3u8", fps=RATE, give_up=2) as source:
        items = list(source)
    assert [number_of(item.picture) for item in items if isinstance(item, Frame)] == list(range(10))
    ours = tmp_path / "secret.ts"
    ours.write_bytes(clip_bytes(range(10)))
    (folder / "bad.m3u8").write_text(playlist(ours.as_uri()))
    bad = f"{address}/bad.m3u8"
    with open_source(bad, fps=RATE, patience=0, give_up=1) as source, pytest.raises(BrokenVideoError):
        source.wait()
        list(source)


@pytest.mark.slow
def test_a_film_on_the_network_ends_at_its_end(website):
    folder, address = website
    (folder / "film.mp4").write_bytes(clip_bytes(range(10), "mp4"))
    started = time.monotonic()
    with open_source(f"{address}/film.mp4", fps=RATE, give_up=60) as source:
        items = list(source)
    assert [number_of(item.picture) for item in items if isinstance(item, Frame)] == list(range(10))
    assert [item.kind for item in items if isinstance(item, Notice)] == ["ended"]
    assert time.monotonic() - started < 60


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("clip.mp4", False),
        ("-", False),
        ("file:///clips/a.mp4", False),
        ("C:\\clips\\a.mp4", False),
        ("odd:name.mp4", False),
        ("rtsp://user:word@camera/door", True),
        ("SRT://10.0.0.1:9000", True),
        ("v4l2:/dev/video0", True),
        ("/dev/null", True),
    ],
)
def test_what_counts_as_an_address(name, expected):
    assert is_address(name) is expected


def test_passwords_are_not_shown():
    assert without_secret("rtsp://user:word@camera/door?x=a@b") == "rtsp://camera/door?x=a@b"
    with open_source("nowhere://user:word@127.0.0.1/x", patience=0, give_up=1) as source:
        assert "word" not in source.name
        with pytest.raises(BrokenVideoError) as caught:
            source.wait()
    assert "word" not in str(caught.value)
