"""Small files that FFmpeg would turn into gigabytes when it opens them: told before, from their own structure.

FFmpeg (8.1) bounds the pixels of a frame, but neither a compressed index of MOV, nor compressed text of PNG, nor what
the tags of TIFF and EXIF name again and again.
"""

from __future__ import annotations

import io
import os
import re
import zlib
from collections.abc import Iterator
from typing import BinaryIO, Literal

from framefusion.core.errors import VideoTooLargeError

MOST_UNPACKED = 2**26
"""Bytes of a compressed index, or of all text and profiles of a picture; an index of three hours has a quarter."""

MOST_TAGS = 2**17
"""Of all directories of a picture, these counted too."""

_PNG = b"\x89PNG\r\n\x1a\n"
_LAST = b"IEND"
_TEXTS = (b"zTXt", b"iTXt", b"iCCP", b"eXIf")
_ORDERS: dict[bytes, Literal["little", "big"]] = {b"II*\0": "little", b"MM\0*": "big"}
_INDEX = re.compile(rb"cmov.{4}dcomzlib.{4}cmvd(.{4})", re.DOTALL)
_NO_INDEX = (b"mdat", b"free", b"skip", b"wide")
_MOST_BOXES, _MOST_LOOKED_AT, _BLOCK = 2_000_000, 2**27, 2**20
_TAG, _LARGEST_VALUE, _DEEPEST = 12, 4, 8
_UNITS = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
_INNER = (0x014A, 0x8769, 0x8825, 0xA005)
_HINT = "export it again, or convert it to mp4"


def check_unpacked(name: str, file: BinaryIO) -> None:
    """Refuse a file whose index, text or tags would take far more memory than it has bytes. `file` is at its start."""
    head = file.read(8)
    try:
        if head[:4] in _ORDERS:
            _check_tags(name, file, os.fstat(file.fileno()).st_size)
        elif head == _PNG:
            _check_chunks(name, file)
        elif head[4:].isascii() and head[4:].isalnum():
            for box in _boxes(file):
                _check_index(name, box)
    finally:
        file.seek(0)


def _boxes(file: BinaryIO) -> Iterator[bytes]:
    """The outermost boxes of an MP4 or MOV file that may hold an index."""
    at, left = 0, _MOST_LOOKED_AT
    for _ in range(_MOST_BOXES):
        file.seek(at)
        head = file.read(16)
        length = int.from_bytes(head[:4], "big")
        length = int.from_bytes(head[8:], "big") if length == 1 else length or left
        if length < 8 or not any(head[4:8]):
            return
        if head[4:8] not in _NO_INDEX:
            file.seek(at)
            box = file.read(min(length, left))
            left -= len(box)
            yield box
        at += length


def _check_index(name: str, box: bytes) -> None:
    for found in _INDEX.finditer(box):
        _check(name, "its compressed index", int.from_bytes(found[1], "big"))
        if _INDEX.search(_unpacked(box[found.end() :])):
            raise VideoTooLargeError(f"{name} is not opened", "its compressed index holds another one", _HINT)


def _check_chunks(name: str, file: BinaryIO) -> None:
    """Text and profiles of a PNG picture, before and behind its pixels, and of those that follow it in the file."""
    unpacked, left = 0, _MOST_LOOKED_AT
    for _ in range(_MOST_BOXES):
        head = file.read(8)
        length, kind = int.from_bytes(head[:4], "big"), head[4:]
        end = file.tell() + length + 4
        if kind == _LAST or not kind.isalpha():
            left = _to_next_picture(file, left)
            if not left:
                return
            continue
        if kind in _TEXTS:
            _check(name, "its text", unpacked + length)
            unpacked += _unpacked_text(name, kind, file.read(length))
            _check(name, "its text", unpacked)
        file.seek(end)


def _unpacked_text(name: str, kind: bytes, body: bytes) -> int:
    """Bytes that the body of a chunk unpacks to."""
    if kind == b"eXIf" and body[:4] in _ORDERS:
        _check_tags(name, io.BytesIO(body), len(body))
    _, _, packed = body.partition(b"\0")
    # Of iTXt, two more texts stand in front.
    packed = packed[2:].split(b"\0", 2)[-1] if kind == b"iTXt" else packed[1:]
    return _unpacked_length(packed)


def _to_next_picture(file: BinaryIO, left: int) -> int:
    """Go behind the next signature of a PNG picture. Returns how many bytes may still be looked at, 0 at the end."""
    seen = b""
    while left > 0 and (block := file.read(min(_BLOCK, left))):
        left -= len(block)
        seen = seen[-len(_PNG) + 1 :] + block
        at = seen.find(_PNG)
        if at >= 0:
            file.seek(at + len(_PNG) - len(seen), os.SEEK_CUR)
            return left
    return 0


def _unpacked(data: bytes) -> bytes:
    """As far as it goes, up to a byte more than there may be."""
    try:
        return zlib.decompressobj().decompress(data, MOST_UNPACKED + 1)
    except zlib.error:
        return b""


def _unpacked_length(data: bytes) -> int:
    """As far as it goes, in blocks that nobody keeps, until it is more than there may be."""
    unpacker, length = zlib.decompressobj(), 0
    try:
        while length <= MOST_UNPACKED and (block := unpacker.decompress(data, _BLOCK)):
            length, data = length + len(block), unpacker.unconsumed_tail
    except zlib.error:
        pass
    return length


def _check_tags(name: str, file: BinaryIO, size: int) -> None:
    """Tags of a TIFF file, or of EXIF, which has the same form. What lies beyond the end is read by nobody."""
    file.seek(0)
    order = _ORDERS[file.read(4)]
    named = tags = 0
    waiting = [(int.from_bytes(file.read(4), order), 0)]
    while waiting:
        at, depth = waiting.pop()
        for tag, kind, count, value in _directory(file, at, order):
            length, tags = count * _UNITS.get(kind, 0), tags + 1
            named += length if length > _LARGEST_VALUE and value + length <= size else 0
            inner = _places(file, count, value, order) if tag in _INNER and depth < _DEEPEST else []
            waiting += [(place, depth + 1) for place in inner]
            tags += len(inner)
            if named > 2 * size + 2**20 or tags > MOST_TAGS:
                why = "its tags name the same bytes again and again"
                raise VideoTooLargeError(f"{name} is not opened", why, _HINT)


def _directory(file: BinaryIO, at: int, order: Literal["little", "big"]) -> Iterator[tuple[int, int, int, int]]:
    """Tag, type, count, and value or its place, of each entry."""
    file.seek(at)
    data = file.read(_TAG * int.from_bytes(file.read(2), order))
    for start in range(0, len(data) - _TAG + 1, _TAG):
        tag, kind = (int.from_bytes(data[start + shift : start + shift + 2], order) for shift in (0, 2))
        count, value = (int.from_bytes(data[start + shift : start + shift + 4], order) for shift in (4, 8))
        yield tag, kind, count, value


def _places(file: BinaryIO, count: int, value: int, order: Literal["little", "big"]) -> list[int]:
    """Of inner directories: one stands in the tag itself, several where it says."""
    if count < 2:
        return [value]
    file.seek(value)
    data = file.read(4 * min(count, MOST_TAGS))
    return [int.from_bytes(data[start : start + 4], order) for start in range(0, len(data) - 3, 4)]


def _check(name: str, what: str, size: int) -> None:
    if size > MOST_UNPACKED:
        why = f"{what} unpacks to more than {MOST_UNPACKED} bytes"
        raise VideoTooLargeError(f"{name} is not opened", why, _HINT)
