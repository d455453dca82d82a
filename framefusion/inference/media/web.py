"""What is at an http or https address, within bounds of size, time and redirects."""

from __future__ import annotations

import time
from http.client import HTTPConnection, HTTPException, HTTPResponse
from typing import BinaryIO
from urllib.parse import SplitResult, quote, urljoin, urlsplit

from framefusion.core.errors import AddressError, VideoTooLargeError

from .addresses import SECONDS, PublicConnection, PublicSecureConnection
from .names import scheme_of

MAX_BYTES = 2**30
"""Of a body, and of standard input."""

MAX_SECONDS = 600
"""From the first connection to the last byte."""

MAX_HOPS = 5
"""Redirects on the way."""

_CONNECTIONS: dict[str, type[HTTPConnection]] = {"http": PublicConnection, "https": PublicSecureConnection}
_MOVED = (301, 302, 303, 307, 308)
_AT_ONCE = 2**16
# As browsers leave them.
_KEPT = "!#$%&'()*+,/:;=?@[]~"
_HINT = "fetch it yourself and name the file"


def download(address: str, file: BinaryIO) -> None:
    """Write the body at `address` into `file`.

    Every hop of a redirect is checked like the first address. No proxy is asked, no cookie or password sent.

    Raises AddressError for what may not or cannot be fetched, VideoTooLargeError for a body of more than `MAX_BYTES`.
    """
    started, at = time.monotonic(), address
    for _ in range(MAX_HOPS + 1):
        parts = _checked(at, address)
        kind = _CONNECTIONS[parts.scheme]
        # With its port: a host like ::1 would be taken for one.
        connection = kind(parts.hostname or "", parts.port or kind.default_port, timeout=SECONDS)
        try:
            answer = _asked(connection, parts)
            if answer.status in _MOVED:
                at = urljoin(at, answer.getheader("location") or "")
                continue
            _check(answer, address)
            _copy(answer, file, address, started)
            return
        except (OSError, HTTPException, ValueError) as error:
            why = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise AddressError(f"{address} cannot be fetched", why, "check the address, or " + _HINT) from None
        finally:
            connection.close()
    raise AddressError(f"{address} cannot be fetched", f"it is redirected more than {MAX_HOPS} times", _HINT)


def _checked(at: str, address: str) -> SplitResult:
    """The parts of `at`, a hop on the way from `address`."""
    scheme = scheme_of(at)
    if scheme not in _CONNECTIONS:
        why = f"`{scheme}` is no scheme to fetch from"
        raise AddressError(f"{address} is not fetched", why, "http and https are; name files by their paths")
    try:
        parts = urlsplit(at)
        _ = parts.port
    except ValueError as error:
        raise AddressError(f"{address} is no address", str(error), "check it") from None
    if not parts.hostname:
        raise AddressError(f"{address} is no address", "it names no host", "check it")
    if parts.username is not None:
        raise AddressError(f"{parts.hostname} is not asked", "its address holds a user's name or password", _HINT)
    return parts


def _asked(connection: HTTPConnection, parts: SplitResult) -> HTTPResponse:
    path = quote(parts.path or "/", safe=_KEPT) + (f"?{quote(parts.query, safe=_KEPT)}" if parts.query else "")
    connection.request("GET", path, headers={"Accept-Encoding": "identity", "User-Agent": "framefusion"})
    return connection.getresponse()


def _check(answer: HTTPResponse, address: str) -> None:
    """Refuse an answer before its body is read."""
    if answer.status != 200:
        why = f"the server answers {answer.status} {answer.reason}".strip()
        raise AddressError(f"{address} cannot be fetched", why, "check the address")
    if (coding := answer.getheader("content-encoding", "identity")) != "identity":
        raise AddressError(f"{address} is not read", f"it comes packed as {coding}, unasked", _HINT)
    if answer.length is not None and answer.length > MAX_BYTES:
        raise _too_large(address)


def _copy(answer: HTTPResponse, file: BinaryIO, address: str, started: float) -> None:
    left, size = answer.length, 0
    while part := answer.read1(_AT_ONCE):
        size += len(part)
        if size > MAX_BYTES:
            raise _too_large(address)
        if time.monotonic() - started > MAX_SECONDS:
            raise AddressError(f"{address} is not read on", f"it takes more than {MAX_SECONDS} seconds", _HINT)
        file.write(part)
    if left is not None and size < left:
        why = f"{size} of {left} bytes came"
        raise AddressError(f"{address} cannot be fetched", why, "try again")


def _too_large(address: str) -> VideoTooLargeError:
    return VideoTooLargeError(f"{address} is too large to fetch", f"it has more than {MAX_BYTES} bytes", _HINT)
