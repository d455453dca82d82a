"""Pictures of every format as Pillow shows them, told from videos, and refused where something is wrong with them."""

from __future__ import annotations

import io
import resource
import struct
import zlib
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image, features

from framefusion.core.errors import FrameFusionError, PictureError, VideoError, VideoTooLargeError
from framefusion.inference.media import load_media
from framefusion.inference.media import still as stills
from framefusion.inference.video import load_clip, write_clip

EXACT = ("png", "bmp", "tiff", "ppm", "jp2")
LOSSY = ("jpg", "webp", "gif", "avif")


def pixels(seed: int = 0, height: int = 48, width: int = 64) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (height, width, 3)).astype(np.uint8)


def saved(path: Path, **options: object) -> Path:
    if path.suffix == ".avif" and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    Image.fromarray(pixels()).save(path, **options)
    return path


@pytest.mark.parametrize("ending", EXACT + LOSSY)
def test_a_picture_is_what_pillow_makes_of_it(ending: str, tmp_path: Path) -> None:
    path = saved(tmp_path / f"picture.{ending}")
    clip = load_media(path)
    assert clip.still and clip.total_frames == 1 and clip.source == str(path)
    with Image.open(path) as picture:
        assert np.array_equal(clip.frames[0], np.asarray(picture.convert("RGB")))
    if ending in EXACT:
        assert np.array_equal(clip.frames[0], pixels())


@pytest.mark.parametrize("ending", EXACT + LOSSY)
def test_a_picture_is_opened_once(ending: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[str] = []
    check = stills.check_unpacked
    monkeypatch.setattr(stills, "check_unpacked", lambda name, file: looked.append(name) or check(name, file))
    path = saved(tmp_path / f"picture.{ending}")
    assert load_media(path).still
    assert looked == [str(path)]


def test_the_name_does_not_matter(tmp_path: Path) -> None:
    saved(tmp_path / "x.png").rename(tmp_path / "holiday.mp4")
    assert load_media(tmp_path / "holiday.mp4").still
    write_clip(tmp_path / "x.mp4", np.stack([pixels()] * 3), fps=5)
    (tmp_path / "x.mp4").rename(tmp_path / "x.jpg")
    assert not load_media(tmp_path / "x.jpg").still


@pytest.mark.parametrize("ending", ["gif", "webp", "png"])
def test_what_moves_is_a_clip(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"moving.{ending}"
    first, *others = (Image.fromarray(pixels(seed)) for seed in range(4))
    first.save(path, save_all=True, append_images=others, duration=200)
    clip = load_media(path)
    assert not clip.still and clip.timestamps == pytest.approx((0, 0.2, 0.4, 0.6))


def test_a_stream_of_jpeg_is_a_clip_and_several_shots_in_one_file_are_a_picture(tmp_path: Path) -> None:
    shots = [Image.fromarray(pixels(seed)) for seed in range(4)]
    held = io.BytesIO()
    for shot in shots:
        shot.save(held, "JPEG")
    (tmp_path / "stream.mjpeg").write_bytes(held.getvalue())
    assert len(load_media(tmp_path / "stream.mjpeg").frames) == 4
    shots[0].save(tmp_path / "phone.jpg", format="MPO", save_all=True, append_images=shots[1:])
    assert load_media(tmp_path / "phone.jpg").still


def test_a_clip_of_one_frame_is_no_picture(tmp_path: Path) -> None:
    write_clip(tmp_path / "one.mp4", pixels()[None], fps=5)
    assert not load_media(tmp_path / "one.mp4").still


def test_a_picture_that_only_ffmpeg_reads_is_one(tmp_path: Path) -> None:
    clip = load_media(saved(tmp_path / "picture.tga"))
    assert clip.still and np.array_equal(clip.frames[0], pixels())


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
@pytest.mark.parametrize(("ending", "more"), [("tiff", {}), ("tiff", {"compression": "tiff_lzw"}), ("png", {})])
def test_turned_pictures_are_upright(mode: str, ending: str, more: dict[str, str], tmp_path: Path) -> None:
    flat = Image.fromarray(pixels()).convert(mode)
    exif = Image.Exif()
    exif[0x0112] = 6
    if ending == "tiff":
        flat.save(tmp_path / f"x.{ending}", tiffinfo={0x0112: 6}, **more)
    else:
        flat.save(tmp_path / f"x.{ending}", exif=exif)
    wanted = np.asarray(flat.transpose(Image.Transpose.ROTATE_270).convert("RGB"))
    assert np.array_equal(load_media(tmp_path / f"x.{ending}").frames[0], wanted)


def test_what_is_transparent_lies_on_white(tmp_path: Path) -> None:
    ink = np.zeros((8, 8, 4), np.uint8)
    ink[2, :, 3] = 255
    Image.fromarray(ink).save(tmp_path / "ink.png")
    shown = load_media(tmp_path / "ink.png").frames[0]
    assert (shown[2] == 0).all() and (np.delete(shown, 2, 0) == 255).all()
    Image.fromarray(ink).convert("P").save(tmp_path / "palette.png", transparency=0)
    assert load_media(tmp_path / "palette.png").frames[0].max() == 255


def test_sixteen_bits_are_scaled_and_not_cut(tmp_path: Path) -> None:
    ramp = np.linspace(0, 65535, 256).astype(np.uint16)[None].repeat(4, 0)
    Image.fromarray(ramp).save(tmp_path / "x.png")
    shown = load_media(tmp_path / "x.png").frames[0]
    assert np.array_equal(shown[0, :, 0], ramp[0] >> 8)
    Image.fromarray(ramp.astype(np.float32)).save(tmp_path / "x.tiff")
    with pytest.raises(PictureError, match="no known range"):
        load_media(tmp_path / "x.tiff")


@pytest.mark.parametrize("share", [0.3, 0.9, 0.99])
@pytest.mark.parametrize("ending", EXACT + LOSSY)
def test_a_picture_that_was_cut_off_is_refused(ending: str, share: float, tmp_path: Path) -> None:
    whole = saved(tmp_path / f"x.{ending}").read_bytes()
    (tmp_path / f"cut.{ending}").write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(VideoError) as seen:
        load_media(tmp_path / f"cut.{ending}")
    assert seen.value.hint and "cut" in seen.value.what


def png_of(width: int, height: int, rows: bytes = b"") -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def bmp_of(width: int, height: int) -> bytes:
    return b"BM" + struct.pack("<IHHI", 54, 0, 0, 54) + struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, *[0] * 6)


def gif_of(width: int, height: int) -> bytes:
    picture = b"\x2c" + struct.pack("<HHHHB", 0, 0, width, height, 0) + b"\x02\x02\x4c\x01\x00"
    return b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80, 0, 0) + bytes(6) + picture + b"\x3b"


def webp_of(width: int, height: int) -> bytes:
    canvas = b"".join((side - 1).to_bytes(3, "little") for side in (width, height))
    body = b"WEBPVP8X" + struct.pack("<I", 10) + b"\x02\0\0\0" + canvas
    return b"RIFF" + struct.pack("<I", len(body)) + body


def tiff_of(width: int, height: int) -> bytes:
    tags = {256: width, 257: height, 258: 1, 259: 1, 262: 1, 273: 8, 277: 1, 278: height, 279: 1}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4)


def ppm_of(width: int, height: int) -> bytes:
    return b"P6 %d %d 255\n" % (width, height)


HUGE = {
    "png": png_of(100_000, 100_000, zlib.compress(bytes(10_000_000), 9)),
    "bmp": bmp_of(100_000, 100_000),
    "gif": gif_of(65_000, 65_000),
    "webp": webp_of(60_000, 60_000),
    "tiff": tiff_of(100_000, 100_000),
    "ppm": ppm_of(100_000, 100_000),
}


@pytest.mark.parametrize("ending", HUGE)
def test_a_huge_picture_is_refused_by_its_header_in_bounded_memory(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"huge.{ending}"
    path.write_bytes(HUGE[ending])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(FrameFusionError) as seen:
        load_media(path)
    assert isinstance(seen.value, VideoError) and seen.value.hint
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # KiB


def test_text_that_unpacks_to_gigabytes_is_refused(tmp_path: Path) -> None:
    bomb = zlib.compress(bytes(200_000_000), 9)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    whole = png_of(8, 8, zlib.compress(b"\0\0" * 8))
    (tmp_path / "x.png").write_bytes(whole[:33] + chunk(b"zTXt", b"k\0\0" + bomb) + whole[33:])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(VideoError):
        load_media(tmp_path / "x.png")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000


def test_an_archive_is_no_picture_and_no_video(tmp_path: Path) -> None:
    import zipfile

    with zipfile.ZipFile(tmp_path / "clip.mp4", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros", bytes(50_000_000))
    with pytest.raises(VideoError):
        load_media(tmp_path / "clip.mp4")


def test_a_large_file_is_refused_before_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path / "x.webp")
    monkeypatch.setattr(stills.limits, "MAX_PICTURE_BYTES", 20)
    with pytest.raises(VideoTooLargeError, match="bytes exceed the bound"):
        load_media(path)


def test_heic_is_refused_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "x.jpg").write_bytes(struct.pack(">I", 24) + b"ftypheic" + bytes(12) + bytes(64))
    with pytest.raises(PictureError, match="HEIC"):
        load_media(tmp_path / "x.jpg")


@pytest.mark.parametrize("ending", ["mp4", "avi", "mkv", "gif"])
def test_a_clip_passes_by_the_bounds_of_pictures(ending: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A video of gigabytes is none too many."""
    path, frames = tmp_path / f"x.{ending}", np.stack([pixels(seed) for seed in range(3)])
    if ending == "gif":
        first, *others = (Image.fromarray(frame) for frame in frames)
        first.save(path, save_all=True, append_images=others)
    else:
        with av.open(path, "w") as container:
            stream = container.add_stream("mpeg4", rate=5)
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
            for frame in frames:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
            container.mux(stream.encode(None))
    monkeypatch.setattr(stills.limits, "MAX_PICTURE_BYTES", 20)
    assert np.array_equal(load_media(path).frames, load_clip(path).frames)


def test_brands_tell_avif_from_heic_and_from_clips() -> None:
    def head(*brands: bytes) -> bytes:
        return struct.pack(">I", 12 + 4 * len(brands)) + b"ftyp" + brands[0] + bytes(4) + b"".join(brands[1:])

    assert stills._read_whole(head(b"mif1", b"miaf", b"avif")) and not stills._is_heic(head(b"mif1", b"avif"))
    assert stills._is_heic(head(b"mif1", b"heic")) and stills._is_heic(head(b"heic"))
    for brands in ((b"isom", b"mp42"), (b"qt  ",)):
        assert not stills._read_whole(head(*brands)) and not stills._is_heic(head(*brands))
