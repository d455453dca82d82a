"""Small files that would unpack to gigabytes are refused before FFmpeg opens them; usual ones are read."""

from __future__ import annotations

import resource
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from framefusion.core.errors import VideoTooLargeError
from framefusion.inference.media import load_media
from framefusion.inference.video import bombs, load_clip, write_clip
from tests.support.bombs import BOMBS, MIB, apng, box, index, mov, tags, text


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


def test_pictures_that_follow_in_the_same_file_are_looked_at(tmp_path: Path) -> None:
    hidden = apng() + bytes(3 * MIB + 5) + apng(text(b"zTXt", 128 * MIB))
    (tmp_path / "x.png").write_bytes(hidden)
    with pytest.raises(VideoTooLargeError, match="is not opened"):
        load_clip(tmp_path / "x.png")


@pytest.mark.parametrize("unit", [0, 4])
def test_directories_of_directories_end(unit: int, tmp_path: Path) -> None:
    """Each of many entries names as many places as there may be, all without an entry."""
    many = bombs.MOST_TAGS
    entries = [struct.pack("<HHII", 0x8769, unit, many, 8 + 2 + 12 * 50 + 4)] * 50
    body = b"II*\0" + struct.pack("<IH", 8, len(entries)) + b"".join(entries) + bytes(4 + 4 * many)
    (tmp_path / "x.tiff").write_bytes(body)
    with pytest.raises(VideoTooLargeError, match="again and again"):
        load_clip(tmp_path / "x.tiff")


@pytest.mark.parametrize("size", [1, 7, 8, 12, 40])
@pytest.mark.parametrize("start", [mov(b"x" * 99, 8), tags(1, 6000), b"MM\0*" + bytes(99), apng()])
def test_what_is_cut_off_is_looked_at_all_the_same(start: bytes, size: int, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(start[:size])
    with open(tmp_path / "x", "rb") as file:
        bombs.check_unpacked("x", file)
        assert file.tell() == 0
