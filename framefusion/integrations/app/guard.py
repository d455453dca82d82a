"""In front of Gradio's server: what it answers at all, and how much of a request it reads.

Gradio (6.31) serves files it holds to whoever knows their place, fetches addresses that stand in a request, and has
routes for developers. The page needs none of it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from framefusion.integrations.app.limits import REQUEST_BYTES

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

UPLOAD = "/gradio_api/upload"
_SERVED = re.compile(
    r"/|/(config|theme\.css|favicon\.ico|manifest\.json|robots\.txt)/?|/(assets|static|svelte)/.*"
    r"|/gradio_api/(upload|upload_progress|info|startup-events|cancel|reset|app_id|theme\.css|run/predict|queue/(join|data))/?"
    r"|/gradio_api/heartbeat/[^/]+"
)
_DEEPEST = 64


class _Refused(Exception):
    def __init__(self, status: int, why: str) -> None:
        self.status, self.why = status, why


class Guard:
    """ASGI middleware. upload: bytes of one file. full: whether there is no room for another one."""

    def __init__(self, app: Callable[..., Awaitable[None]], upload: int, full: Callable[[], bool]) -> None:
        self.app, self.upload, self.full = app, upload, full

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] != "websocket":
                await self.app(scope, receive, send)
            return
        try:
            if not _SERVED.fullmatch(scope["path"]):
                raise _Refused(404, "not found")
            if scope["path"].rstrip("/") == UPLOAD:
                if self.full():
                    raise _Refused(507, "too many clips are here at the moment, try again later")
                # Beside the file there are its name and the marks around it.
                await self.app(scope, _counted(receive, self.upload + REQUEST_BYTES), send)
            else:
                await self.app(scope, await _looked_at(scope, receive), send)
        except _Refused as refused:
            await _answer(send, refused)


def _counted(receive: Receive, most: int) -> Receive:
    """The same, until there are more than `most` bytes."""
    read = 0

    async def counted() -> Message:
        nonlocal read
        message = await receive()
        read += len(message.get("body", b""))
        if read > most:
            raise _Refused(413, f"more than {most} bytes")
        return message

    return counted


async def _looked_at(scope: Message, receive: Receive) -> Receive:
    """The same again, when all of the body has been read and found to hold no address of a file."""
    if scope["method"] in ("GET", "HEAD", "OPTIONS"):
        return receive
    counted, body, more = _counted(receive, REQUEST_BYTES), b"", True
    while more:
        message = await counted()
        if message["type"] == "http.disconnect":
            break
        body, more = body + message.get("body", b""), message.get("more_body", False)
    try:
        addressed = body.strip() != b"" and names_address(json.loads(body))
    except (ValueError, RecursionError):
        raise _Refused(400, "no JSON") from None
    if addressed:
        raise _Refused(400, "files are uploaded, not fetched")
    whole: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> Message:
        return whole.pop() if whole else await receive()

    return again


def names_address(data: Any, depth: int = 0) -> bool:
    """Whether a file in a request is an address rather than an upload. What is nested too deep counts as one."""
    if depth > _DEEPEST:
        return True
    if isinstance(data, dict):
        path = data.get("path")
        return (isinstance(path, str) and "://" in path) or names_address(list(data.values()), depth + 1)
    return isinstance(data, list) and any(names_address(each, depth + 1) for each in data)


async def _answer(send: Send, refused: _Refused) -> None:
    body = json.dumps({"detail": refused.why}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": refused.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
