"""Files of less than a megabyte that a decoder would unpack to hundreds, by name."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable

from PIL import Image

MIB = 2**20


def packed(size: int) -> bytes:
    packer = zlib.compressobj(9)
    return b"".join(packer.compress(bytes(2**22)) for _ in range(size // 2**22)) + packer.flush()


def box(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", 8 + len(body)) + kind + body


def index(data: bytes, size: int) -> bytes:
    return box(b"cmov", box(b"dcom", b"zlib") + box(b"cmvd", struct.pack(">I", size) + data))


def mov(data: bytes, size: int) -> bytes:
    return box(b"ftyp", b"qt  \0\0\0\0qt  ") + box(b"moov", index(data, size))


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def apng(*chunks: bytes, front: bool = False) -> bytes:
    held = io.BytesIO()
    first, *others = (Image.new("RGB", (8, 8), (90 * number, 0, 0)) for number in range(3))
    first.save(held, "PNG", save_all=True, append_images=others)
    data, more = held.getvalue(), b"".join(chunks)
    return data[:33] + more + data[33:] if front else data[:-12] + more + data[-12:]


def tags(count: int, size: int, head: bytes = b"II*\0", inner: bool = False) -> bytes:
    """A directory whose entries all name the same bytes. inner: and which is its own inner directory."""
    entries = [struct.pack("<HHII", tag, 4, 1, 8) for tag in (256, 257)]
    entries += [struct.pack("<HHII", 1000 + number, 1, size - 5000, 8) for number in range(count)]
    entries += [struct.pack("<HHII", 0x8769, 4, 1, 8)] if inner else []
    data = head + struct.pack("<IH", 8, len(entries)) + b"".join(entries) + bytes(4)
    return data + bytes(size - len(data))


def text(kind: bytes, size: int) -> bytes:
    front = b"k\0\1\0\0\0" if kind == b"iTXt" else b"k\0\0"
    return chunk(kind, front + packed(size))


BOMBS: dict[str, Callable[[], bytes]] = {
    "an index of MOV": lambda: mov(packed(256 * MIB), 256 * MIB),
    "an index that says it is larger": lambda: mov(b"", 2**31 - 1),
    "an index in an index": lambda: mov(zlib.compress(box(b"moov", index(b"", 0))), 1000),
    "an index behind others": lambda: box(b"free", b"") * 100 + box(b"udta", index(b"", 2**30)),
    "text of PNG": lambda: apng(text(b"zTXt", 128 * MIB)),
    "text of PNG in any language": lambda: apng(text(b"iTXt", 128 * MIB)),
    "many texts of PNG": lambda: apng(*[text(b"zTXt", 16 * MIB)] * 5),
    "a profile of PNG": lambda: apng(text(b"iCCP", 128 * MIB)),
    "tags of TIFF": lambda: tags(2000, 500_000),
    "inner tags of TIFF": lambda: tags(2, 500_000, inner=True),
    "tags of EXIF in PNG": lambda: apng(chunk(b"eXIf", tags(2000, 500_000)), front=True),
}
