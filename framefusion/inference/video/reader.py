"""The bytes of a file, up to where nothing comes of them any more."""

from __future__ import annotations

import os
from typing import BinaryIO

from . import limits
from .boxes import cut_within

_MOST_AT_ONCE = 2**20
_TINY = 2**14
_SYNC, _TS_PACKETS = 0x47, ((188, 0), (192, 4), (204, 0))
_LEAST_TS_PACKETS = 4
_PICTURES = (b"II*\0", b"MM\0*", b"BM", b"\x89PNG\r\n\x1a\n", b"P5", b"P6")


def format_of(file: BinaryIO) -> str | None:
    """The format of a tiny file in which FFmpeg would see another one, else None.

    Of a transport stream of about ten packets or fewer FFmpeg (5.1 to 8.1) is not sure, and takes some for a program
    stream.
    """
    data = file.read(_TINY + 1)
    file.seek(0)
    for size, first in _TS_PACKETS if len(data) <= _TINY else ():
        starts = data[first::size]
        if len(starts) >= _LEAST_TS_PACKETS and set(starts) == {_SYNC}:
            return "mpegts"
    return None


def _head(file: BinaryIO) -> bytes:
    data = file.read(8)
    file.seek(0)
    return data


def _ends_in_index(file: BinaryIO, start: int, size: int) -> bool:
    file.seek(start)
    length = int.from_bytes(file.read(4), "big")
    file.seek(0)
    return start + length > size


class Endless:
    """Stands for the reader of a source that FFmpeg reads itself, or that has no size."""

    size = barren = enough = 0
    cut = given_up = False


class Reader:
    """What PyAV reads from: `file`, which seems to end once too much was read in vain.

    barren: bytes read since the last packet came out. enough: how many are in vain. size: bytes of the file.
    cut: the file ends within a fragment, the index of which is hidden unless it is whole.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file, self.name = file, file.name
        self.size = os.fstat(file.fileno()).st_size
        cut = cut_within(file, self.size)
        self.cut, self._end = cut is not None, self.size
        if cut is not None and _ends_in_index(file, cut, self.size):
            self._end = cut
        # A picture is one packet, and its size is known after that.
        most = limits.BYTES_PER_PIXEL * limits.MAX_FRAME_PIXELS
        whole = self.size <= most and _head(file).startswith(_PICTURES)
        self.barren, self.enough = 0, most if whole else limits.MAX_BARREN_BYTES

    @property
    def given_up(self) -> bool:
        return self.barren > self.enough

    def read(self, size: int) -> bytes:
        if self.given_up:
            return b""
        # Picture files are asked for as a whole.
        data = self._file.read(max(0, min(size, _MOST_AT_ONCE, self._end - self._file.tell())))
        self.barren += len(data)
        return data

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()
