"""What the server answers at all, and how much of a request it reads."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from framefusion.integrations.app.guard import Guard, names_address
from framefusion.integrations.app.limits import REQUEST_BYTES

JOIN = "/gradio_api/queue/join"


async def inner(scope: Any, receive: Any, send: Any) -> None:
    """Reads all of a request and says how much it was."""
    size, more = 0, True
    while more:
        message = await receive()
        size, more = size + len(message["body"]), message.get("more_body", False)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": str(size).encode()})


def ask(
    path: str, body: bytes = b"", method: str = "POST", piece: int = 2**16, full: bool = False
) -> tuple[int, bytes]:
    """Status and body of the answer."""
    parts = [body[start : start + piece] for start in range(0, len(body), piece)] or [b""]
    said: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": parts.pop(0), "more_body": bool(parts)}

    async def send(message: Any) -> None:
        said.append(message)

    scope = {"type": "http", "method": method, "path": path}
    asyncio.run(Guard(inner, upload=1000, full=lambda: full)(scope, receive, send))
    return said[0]["status"], said[1]["body"]


@pytest.mark.parametrize(
    "path",
    [
        "/gradio_api/file=/etc/passwd",
        "/gradio_api/file=http://127.0.0.1/",
        "/gradio_api/file/etc/passwd",
        "/file=/etc/passwd",
        "/gradio_api/proxy=http://127.0.0.1/",
        "/gradio_api/vibe-edit",
        "/gradio_api/run/other",
        "/gradio_api/call/x",
        "/gradio_api/stream/a/b/c/playlist-file",
        "/gradio_api/deep_link",
        "/gradio_api/heartbeat/a/../../file=x",
        "/monitoring/summary",
        "/docs",
        "//",
        "",
    ],
)
def test_what_the_page_does_not_need_is_not_there(path):
    assert ask(path, method="GET")[0] == 404


@pytest.mark.parametrize("path", ["/", "/config", "/assets/a/b.js", "/theme.css", "/gradio_api/heartbeat/abc"])
def test_what_the_page_needs_is_there(path):
    assert ask(path, method="GET") == (200, b"0")


def test_bodies_are_bounded():
    assert ask("/gradio_api/upload", b"x" * (1000 + REQUEST_BYTES)) == (200, str(1000 + REQUEST_BYTES).encode())
    for path in ("/gradio_api/upload", "/gradio_api/upload/"):
        status = ask(path, b"x" * (1001 + REQUEST_BYTES))[0]
        assert status in (404, 413) and (status == 413 or path.endswith("/"))
    fits = json.dumps("x" * (REQUEST_BYTES - 2)).encode()
    assert ask(JOIN, fits) == (200, str(REQUEST_BYTES).encode())
    assert ask(JOIN, fits + b" ")[0] == 413


def test_without_room_nothing_is_taken_and_the_page_still_answers():
    assert ask("/gradio_api/upload", b"x")[0] == 200
    status, said = ask("/gradio_api/upload", b"x", full=True)
    assert status == 507 and b"later" in said
    assert ask("/", method="GET", full=True)[0] == ask(JOIN, b"{}", full=True)[0] == 200


@pytest.mark.parametrize("address", ["http://127.0.0.1/x", "https://a.example/x.mp4", "file:///etc/passwd"])
def test_files_are_not_fetched_from_addresses(address):
    data = {"data": [{"path": address, "meta": {"_type": "gradio.FileData"}}, "http://in.a.question/"]}
    assert ask(JOIN, json.dumps(data).encode())[0] == 400
    data["data"][0] = {"path": "/tmp/x", "url": address}  # Gradio's own client names where the upload is served
    assert ask(JOIN, json.dumps(data).encode())[0] == 200


@pytest.mark.parametrize("body", [b"{", b"\xff", b"[" * 100_000, b"[" * 100 + b"]" * 100])
def test_what_is_no_plain_json_is_refused(body):
    assert ask(JOIN, body)[0] == 400


def test_an_empty_body_is_none():
    assert ask("/gradio_api/reset") == (200, b"0")
    assert not names_address({"path": 3, "data": ["path", "a://b"]})
