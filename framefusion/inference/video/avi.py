"""How many frames an AVI file has room for, those included that were dropped when it was recorded."""

from __future__ import annotations

import os
from typing import BinaryIO

from . import limits

_LISTS = (b"RIFF", b"LIST")
_CHUNKS = (b"dc", b"db")


def chunk_count(name: str, stream: int) -> int:
    """Chunks of video stream `stream`, with those that are empty: a player goes on showing the frame before."""
    with open(name, "rb") as file:
        return _count(file, os.fstat(file.fileno()).st_size, b"%02d" % stream)


def _count(file: BinaryIO, end: int, stream: bytes) -> int:
    count, position = 0, 0
    for _ in range(limits.MAX_PACKETS):
        file.seek(position)
        head = file.read(8)
        if len(head) < 8 or not any(head):
            break
        size = int.from_bytes(head[4:], "little")
        if head[:4] in _LISTS:
            position += 12  # what a list holds follows its name
            continue
        if position + 8 + size > end:
            break
        count += head[:2] == stream and head[2:4] in _CHUNKS
        position += 8 + size + size % 2
    return count
