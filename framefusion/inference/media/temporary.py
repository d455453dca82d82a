"""What has no name in the file system, brought into a file for as long as it is read."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import BinaryIO

from framefusion.core.errors import AddressError, BrokenVideoError, FrameFusionError, VideoTooLargeError

from .names import STDIN
from .web import MAX_BYTES, download

_AT_ONCE = 2**20
STANDARD_INPUT = "standard input"


@contextmanager
def from_address(address: str, offline: bool) -> Iterator[str]:
    """A file with what is at `address`, removed at the end; errors inside name the address."""
    if offline:
        raise AddressError(f"{address} is not fetched", "--offline says so", "name a file, or leave --offline out")
    with _held(address, lambda file: download(address, file)) as path:
        yield path


@contextmanager
def from_stdin() -> Iterator[str]:
    """A file with what comes in, removed at the end; errors inside name standard input."""
    source = getattr(sys.stdin, "buffer", None)
    if source is None or sys.stdin.isatty():
        why = "it is the keyboard" if source is not None else "it is closed"
        raise BrokenVideoError(f"{STANDARD_INPUT} cannot be read", why, f"framefusion run {STDIN} QUESTION < FILE")
    with _held(STANDARD_INPUT, lambda file: _spool(source, file)) as path:
        yield path


def _spool(source: BinaryIO, file: BinaryIO) -> None:
    size = 0
    while part := source.read(_AT_ONCE):
        size += len(part)
        if size > MAX_BYTES:
            why = f"it holds more than {MAX_BYTES} bytes"
            raise VideoTooLargeError(f"{STANDARD_INPUT} is too large to read", why, "write it to a file and name that")
        file.write(part)


@contextmanager
def _held(shown: str, fill: Callable[[BinaryIO], None]) -> Iterator[str]:
    """A file made by `fill`; in what is raised about it, `shown` stands for its path."""
    handle, path = tempfile.mkstemp(prefix="framefusion-")
    try:
        with os.fdopen(handle, "wb") as file:
            fill(file)
        yield path
    except FrameFusionError as error:
        what, why, hint = (part.replace(repr(path), shown).replace(path, shown) for part in _parts(error))
        raise type(error)(what, why, hint) from None
    finally:
        os.unlink(path)


def _parts(error: FrameFusionError) -> tuple[str, str, str]:
    return error.what, error.why, error.hint
