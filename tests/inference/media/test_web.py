"""What addresses may be fetched from, against a server of this machine that is taken for a public one."""

from __future__ import annotations

import io
import ipaddress
import os
import socket
import tempfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from framefusion.core.errors import AddressError, FrameFusionError, VideoError, VideoTooLargeError
from framefusion.inference.media import MediaOptions, addresses, load_media, web

held = io.BytesIO()
Image.new("RGB", (16, 8), (9, 9, 9)).save(held, "PNG")
PICTURE = held.getvalue()


class Server(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        if path == "/picture.png":
            self._send(200, {"Content-Length": str(len(PICTURE))}, PICTURE)
        elif path == "/to":
            self._send(302, {"Location": query, "Content-Length": "0"})
        elif path == "/loop":
            self._send(302, {"Location": "/loop", "Content-Length": "0"})
        elif path == "/large":
            self._send(200, {"Content-Length": str(2**40)})
        elif path == "/short":
            self._send(200, {"Content-Length": str(len(PICTURE)), "Connection": "close"}, PICTURE[:20])
            self.close_connection = True
        elif path == "/packed":
            self._send(200, {"Content-Encoding": "gzip", "Content-Length": "3"}, b"abc")
        elif path == "/endless":
            self._send(200, {"Connection": "close"})
            self.close_connection = True
            try:
                while True:
                    self.wfile.write(bytes(2**16))
            except OSError:
                pass
        else:
            self._send(404, {"Content-Length": "0"})

    def _send(self, status: int, headers: dict[str, str], body: bytes = b"") -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Server) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


@pytest.fixture
def public(monkeypatch: pytest.MonkeyPatch) -> None:
    """127.0.0.1 counts as an address of the public network, and no other one of this machine does."""
    real = addresses.is_public
    stand_in = ipaddress.ip_address("127.0.0.1")
    monkeypatch.setattr(addresses, "is_public", lambda address: address == stand_in or real(address))


def left_over() -> set[str]:
    return {name for name in os.listdir(tempfile.gettempdir()) if name.startswith("framefusion-")}


PRIVATE = [
    *("127.0.0.1", "127.8.9.1", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0"),
    *("224.0.0.1", "240.0.0.1", "255.255.255.255", "192.0.2.1", "198.18.0.1"),
    *("::", "::1", "fe80::1", "fc00::1", "fec0::1", "ff02::1", "2001:db8::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1"),
    *("64:ff9b::7f00:1", "2002:7f00:1::1", "2002:a00:1::", "2001:0:4136:e378:8000:63bf:f5ff:fffe"),
]
PUBLIC = ["8.8.8.8", "1.1.1.1", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"]


@pytest.mark.parametrize("address", PRIVATE)
def test_private(address: str) -> None:
    assert not addresses.is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize("address", PUBLIC)
def test_public(address: str) -> None:
    assert addresses.is_public(ipaddress.ip_address(address))


def test_a_picture_is_fetched_and_its_file_removed(server: str, public: None) -> None:
    before = left_over()
    for address in (f"{server}/picture.png", f"{server}/to?/picture.png", f"{server}/to?{server}/picture.png?x=1"):
        clip = load_media(address)
        assert clip.still and clip.frames.shape == (1, 8, 16, 3) and clip.source == address
    assert left_over() == before


HIDDEN = ("http://127.0.0.1:{port}/", "http://localhost:{port}/", "http://2130706433:{port}/", "http://0x7f.1:{port}/")


@pytest.mark.parametrize("address", [*HIDDEN, "http://[::1]:{port}/", "http://[::ffff:127.0.0.1]:{port}/"])
def test_this_machine_is_not_asked(address: str, server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def connect(*_: Any) -> None:
        raise AssertionError("a connection was made")

    monkeypatch.setattr(socket.socket, "connect", connect)
    with pytest.raises(AddressError) as seen:
        load_media(address.format(port=server.rpartition(":")[2]) + "picture.png")
    assert "private network" in seen.value.why or "not found" in seen.value.what


@pytest.mark.parametrize(
    "target", ["http://127.0.0.2/x", "http://10.0.0.1/", "http://[::1]/", "http://169.254.169.254/latest/meta-data"]
)
def test_each_hop_is_checked(target: str, server: str, public: None) -> None:
    for address in (f"{server}/to?{target}", f"{server}/to?/to?{target}"):
        with pytest.raises(AddressError, match="private network"):
            load_media(address)


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://example.com/x.png", "gopher://x/", "data:image/png,x"])
def test_other_schemes_are_refused_first_and_later(target: str, server: str, public: None) -> None:
    for address in (target, f"{server}/to?{target}"):
        with pytest.raises(AddressError, match="no scheme to fetch from"):
            load_media(address)


def test_the_address_that_was_checked_is_the_one_that_is_connected_to(
    server: str, public: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that first leads to a public address and then to this machine is asked once only."""
    port, asked = int(server.rpartition(":")[2]), []

    def resolve(host: str, *_: Any, **__: Any) -> list[Any]:
        asked.append(host)
        place = ("127.0.0.1", port) if len(asked) == 1 else ("127.0.0.2", port)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", place)]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    assert load_media(f"http://rebinding.example:{port}/picture.png").still
    assert asked == ["rebinding.example"]


def test_one_private_address_among_several_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    places = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (one, 80)) for one in ("8.8.8.8", "10.0.0.1")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: places)
    with pytest.raises(AddressError, match=r"10\.0\.0\.1"):
        load_media("http://both.example/x.png")


REFUSED = {
    "/nothing": "404",
    "/loop": "redirected more than",
    "/large": "too large to fetch",
    "/short": "of .* bytes came",
    "/packed": "packed as gzip",
}


@pytest.mark.parametrize("path", REFUSED)
def test_what_a_server_may_do_wrong(path: str, server: str, public: None) -> None:
    before = left_over()
    with pytest.raises(VideoError, match=REFUSED[path]) as seen:
        load_media(server + path)
    assert seen.value.hint and tempfile.gettempdir() not in str(seen.value)
    assert left_over() == before


def test_an_endless_body_ends_at_the_bound(server: str, public: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "MAX_BYTES", 2**20)
    with pytest.raises(VideoTooLargeError):
        load_media(f"{server}/endless")
    monkeypatch.setattr(web, "MAX_BYTES", 2**40)
    monkeypatch.setattr(web, "MAX_SECONDS", 0)
    with pytest.raises(AddressError, match="takes more than 0 seconds"):
        load_media(f"{server}/endless")


@pytest.mark.parametrize("address", ["http://", "http://:80/x", "http://x:99999999/", "http://[::1", "http://u:p@x.y/"])
def test_addresses_that_are_none(address: str) -> None:
    with pytest.raises(AddressError) as seen:
        load_media(address)
    assert "u:p" not in str(seen.value)


def test_no_proxy_is_asked(server: str, public: None, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.2:9")
    assert load_media(f"{server}/picture.png").still


def test_offline_nothing_is_fetched(server: str, public: None) -> None:
    with pytest.raises(AddressError, match="--offline"):
        load_media(f"{server}/picture.png", MediaOptions(offline=True))


def test_names_in_errors_are_the_addresses(server: str, public: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "PICTURE", PICTURE[:50])
    with pytest.raises(FrameFusionError) as seen:
        load_media(f"{server}/picture.png")
    assert f"{server}/picture.png" in seen.value.what and str(Path(tempfile.gettempdir())) not in str(seen.value)
