"""Where an MP4 or MOV file written in fragments was cut off: from the sizes of its outermost boxes alone."""

from __future__ import annotations

from typing import BinaryIO

_HEAD, _LONG_HEAD = 8, 16
_FIRST = (b"ftyp", b"styp", b"moov", b"moof")
_MOST_BOXES = 2_000_000


def cut_within(file: BinaryIO, size: int) -> int | None:
    """The offset of the fragment that `file` of `size` bytes ends in, None where no fragment was cut off.

    FFmpeg (7.1 to 8.1) opens no file that ends within the index of a fragment (`moof`), and takes one that ends behind
    it for whole where a fragment is one frame.
    """
    at, fragment = 0, None
    try:
        for count in range(_MOST_BOXES):
            file.seek(at)
            head = file.read(_LONG_HEAD)
            kind, length = head[4:_HEAD], int.from_bytes(head[:4], "big")
            if count == 0 and kind not in _FIRST:
                return None
            if len(head) < _HEAD:
                return fragment
            if kind == b"moof":
                fragment = at
            if length == 1 and len(head) == _LONG_HEAD:
                length = int.from_bytes(head[_HEAD:], "big")
            if length < _HEAD:  # up to the end of the file, or no box
                return None
            at += length
            if kind in (b"moof", b"mdat") and at > size:
                return fragment
            if kind == b"mdat":
                fragment = None
    finally:
        file.seek(0)
    return None
