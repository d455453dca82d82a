"""Small files that would unpack to gigabytes are refused before FFmpeg opens them; usual ones are read."""

from __future__ import annotations

import io
import resource
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from framefusion.core.errors import VideoTooLargeError
from framefusion.inference.media import load_media
from framefusion.inference.video import bombs, load_clip, write_clip

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


@pytest.mark.slow
@pytest.mark.parametrize("kind", BOMBS)
def test_a_bomb_is_refused_before_it_is_opened(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "x.mp4"
    path.write_bytes(BOMBS[kind]())
    assert path.stat().st_size < MIB
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for load in (load_media, load_clip):
        with pytest.raises(VideoTooLargeError, match="is not opened") as seen:
            load(path)
        assert seen.value.hint and str(path) in seen.value.what
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # KiB


def test_a_clip_whose_index_is_compressed_is_read(tmp_path: Path) -> None:
    frames = np.random.default_rng(0).integers(0, 255, (6, 48, 64, 3), np.uint8)
    write_clip(tmp_path / "plain.mp4", frames, fps=4)
    data = (tmp_path / "plain.mp4").read_bytes()
    at = data.index(b"moov") - 4
    size = int.from_bytes(data[at : at + 4], "big")
    assert data.index(b"mdat") < at  # so that no place in it changes
    whole = data[at : at + size]
    shorter = box(b"moov", index(zlib.compress(whole), size))
    (tmp_path / "packed.mov").write_bytes(data[:at] + shorter + data[at + size :])
    assert np.array_equal(load_clip(tmp_path / "packed.mov").frames, load_clip(tmp_path / "plain.mp4").frames)


def test_usual_text_profiles_and_tags_are_read(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 3, "a description " * 100
    first, *others = (Image.new("RGB", (8, 8), (90 * number, 0, 0)) for number in range(3))
    first.save(tmp_path / "x.png", save_all=True, append_images=others, exif=exif)
    (tmp_path / "y.png").write_bytes(apng(text(b"zTXt", 4 * MIB), text(b"iTXt", 4 * MIB)))
    assert [len(load_clip(tmp_path / f"{name}.png").frames) for name in "xy"] == [3, 3]
    first.save(tmp_path / "x.tiff", compression="tiff_lzw", exif=exif)
    assert load_clip(tmp_path / "x.tiff").frames.shape == (1, 8, 8, 3)


@pytest.mark.parametrize("size", [1, 7, 8, 12, 40])
@pytest.mark.parametrize("start", [mov(b"x" * 99, 8), tags(1, 6000), b"MM\0*" + bytes(99), apng()])
def test_what_is_cut_off_is_looked_at_all_the_same(start: bytes, size: int, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(start[:size])
    with open(tmp_path / "x", "rb") as file:
        bombs.check_unpacked("x", file)
        assert file.tell() == 0
