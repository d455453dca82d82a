"""Mirrors, turns and pixels that are not square, as players show them."""

import io
import struct
from fractions import Fraction

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps

from framefusion.core.errors import BrokenVideoError, VideoTooLargeError
from framefusion.inference.media import load_media
from framefusion.inference.video import limits, load_clip, write_clip

av = pytest.importorskip("av")

WIDTH, HEIGHT = 96, 64


def corners(height=HEIGHT, width=WIDTH):
    """A picture whose corners differ: red at the top left, green at the top right, blue at the bottom right."""
    picture = np.zeros((height, width, 3), np.uint8)
    picture[: height // 3, : width // 3] = (255, 0, 0)
    picture[: height // 3, -width // 3 :] = (0, 255, 0)
    picture[-height // 3 :, -width // 3 :] = (0, 0, 255)
    return picture


MATRICES = {
    "as it is": ((1, 0, 0, 1), lambda p: p),
    "left for right": ((-1, 0, 0, 1), lambda p: p[:, ::-1]),
    "upside down": ((1, 0, 0, -1), lambda p: p[::-1]),
    "half turn": ((-1, 0, 0, -1), lambda p: p[::-1, ::-1]),
    "transposed": ((0, 1, 1, 0), lambda p: p.transpose(1, 0, 2)),
    "transposed the other way": ((0, -1, -1, 0), lambda p: p[::-1, ::-1].transpose(1, 0, 2)),
    "clockwise": ((0, 1, -1, 0), lambda p: np.rot90(p, -1)),
    "counter-clockwise": ((0, -1, 1, 0), lambda p: np.rot90(p, 1)),
}


def near(found, wanted):
    return found.shape == wanted.shape and np.abs(found.astype(int) - wanted.astype(int)).mean() < 6


@pytest.mark.parametrize("scale", [1 << 16, 3 << 14])
@pytest.mark.parametrize("name", ["m.mp4", "m.mov"])
@pytest.mark.parametrize("kind", MATRICES)
def test_display_matrices(tmp_path, make, name, kind, scale):
    (a, b, c, d), change = MATRICES[kind]
    matrix = [a * scale, b * scale, 0, c * scale, d * scale, 0, 0, 0, 1 << 30]
    pictures = np.stack([corners()] * 3)
    path = make.encode(tmp_path / name, pictures, prepare=lambda stream: stream.set_display_matrix(matrix))
    clip = load_clip(path, frames=2)
    assert all(near(frame, change(corners())) for frame in clip.frames)
    small = load_clip(path, frames=2, max_side=48).frames[0]
    assert near(small, change(corners()[::2, ::2])) and max(small.shape) == 48


def test_a_matrix_in_the_header_of_a_track(tmp_path):
    write_clip(tmp_path / "m.mp4", np.stack([corners()] * 3))
    data = bytearray((tmp_path / "m.mp4").read_bytes())
    same = struct.pack(">9i", 65536, 0, 0, 0, 65536, 0, 0, 0, 1 << 30)
    at = data.index(same, data.index(b"tkhd"))
    data[at : at + 36] = struct.pack(">9i", -65536, 0, 0, 0, 65536, 0, WIDTH << 16, 0, 1 << 30)
    (tmp_path / "m.mp4").write_bytes(data)
    assert near(load_clip(tmp_path / "m.mp4").frames[0], corners()[:, ::-1])


@pytest.mark.parametrize("extension", ["jpg", "png", "webp", "tif"])
@pytest.mark.parametrize("value", range(1, 9))
def test_pictures_are_shown_as_pillow_shows_them(tmp_path, extension, value):
    exif = Image.Exif()
    exif[0x0112] = value
    path = tmp_path / f"p.{extension}"
    Image.fromarray(corners()).save(path, exif=exif, **({} if extension == "tif" else {"quality": 95}))
    with Image.open(path) as picture:
        shown = np.asarray(ImageOps.exif_transpose(picture).convert("RGB"))
    clip = load_clip(path)
    assert clip.total_frames == 1 and clip.timestamps == (0.0,) and near(clip.frames[0], shown)


@pytest.mark.parametrize("extension", ["jpg", "png", "webp"])
def test_exif_beside_a_profile_of_colours(tmp_path, extension):
    """PyAV (18.1) crashes where the side data of such a frame are asked for. As PNG it is an animation here."""
    exif = Image.Exif()
    exif[0x0112] = 5
    path, profile = tmp_path / f"p.{extension}", ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    moving = {"save_all": True, "append_images": [Image.fromarray(corners() // 2)]} if extension == "png" else {}
    Image.fromarray(corners()).save(path, exif=exif, icc_profile=profile, quality=95, **moving)
    with Image.open(path) as picture:
        shown = np.asarray(ImageOps.exif_transpose(picture).convert("RGB"))
    for load in (load_clip, load_media):
        clip = load(path)
        assert clip.total_frames == 1 + bool(moving) and near(clip.frames[0], shown)


def test_a_picture_with_a_density_keeps_its_pixels(tmp_path):
    Image.fromarray(corners()).save(tmp_path / "d.jpg", dpi=(72, 144), quality=95)
    assert load_clip(tmp_path / "d.jpg").frames.shape == (1, HEIGHT, WIDTH, 3)


@pytest.mark.parametrize("value", [2, 5, 7, 8])
def test_motion_jpeg_with_exif_in_its_frames(tmp_path, value):
    exif = Image.Exif()
    exif[0x0112] = value
    with io.BytesIO() as coded, av.open(str(tmp_path / "m.avi"), "w") as output:
        Image.fromarray(corners()).save(coded, "jpeg", exif=exif, quality=95)
        stream = output.add_stream("mjpeg", rate=10)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuvj420p"
        for number in range(4):
            packet = av.Packet(coded.getvalue())
            packet.pts = packet.dts = number
            packet.time_base, packet.stream, packet.is_keyframe = Fraction(1, 10), stream, True
            output.mux(packet)
        shown = np.asarray(ImageOps.exif_transpose(Image.open(coded)).convert("RGB"))
    clip = load_clip(tmp_path / "m.avi", frames=2)
    assert all(near(frame, shown) for frame in clip.frames)


@pytest.mark.parametrize(
    ("name", "codec"), [("s.mp4", "libx264"), ("s.mkv", "libx264"), ("s.ts", "mpeg2video"), ("s.avi", "mpeg4")]
)
@pytest.mark.parametrize(("pixel", "width"), [((16, 11), 140), ((8, 9), 85), ((1, 2), 48), ((1, 1), 96), ((0, 1), 96)])
def test_pixels_that_are_not_square(tmp_path, make, name, codec, pixel, width):
    def prepare(stream):
        stream.codec_context.sample_aspect_ratio = Fraction(*pixel)

    pictures = np.stack([corners()] * (60 if name == "s.ts" else 3))
    path = make.encode(tmp_path / name, pictures, codec, prepare=prepare, options={"b": "4000000"})
    if name == "s.ts" and width != 96:
        # MPEG-2 knows a handful of display ratios only; the nearest of them is what players show.
        with av.open(str(path)) as container:
            width = round(WIDTH * (container.streams.video[0].sample_aspect_ratio or 1))
    frames = load_clip(path).frames
    assert abs(frames.shape[2] - width) <= 1 and frames.shape[1] == HEIGHT
    wanted = np.asarray(Image.fromarray(corners()).resize(frames.shape[2:0:-1]))
    assert near(frames[0], wanted)
    assert max(load_clip(path, max_side=32).frames.shape[1:3]) == 32


def test_squeezed_and_turned(tmp_path, make):
    def prepare(stream):
        stream.codec_context.sample_aspect_ratio = Fraction(3, 2)
        stream.set_display_matrix([0, 65536, 0, 65536, 0, 0, 0, 0, 1 << 30])

    path = make.encode(tmp_path / "t.mp4", np.stack([corners()] * 2), prepare=prepare)
    wide = np.asarray(Image.fromarray(corners()).resize((144, HEIGHT)))
    assert near(load_clip(path).frames[0], wide.transpose(1, 0, 2))


def test_the_bound_on_pixels_counts_the_shown_ones(tmp_path, make):
    from framefusion.core.errors import VideoTooLargeError

    def prepare(stream):
        stream.codec_context.sample_aspect_ratio = Fraction(2)

    path = make.encode(tmp_path / "b.mp4", np.stack([corners()] * 2), prepare=prepare)
    assert load_clip(path, max_pixels=2 * HEIGHT * 2 * WIDTH).frames.shape == (2, HEIGHT, 2 * WIDTH, 3)
    with pytest.raises(VideoTooLargeError):
        load_clip(path, max_pixels=2 * HEIGHT * 2 * WIDTH - 1)


@pytest.mark.parametrize("compression", ["jpeg", "raw", "tiff_lzw", "packbits", "tiff_adobe_deflate"])
def test_a_tiff_picture_is_never_black(tmp_path, make, compression):
    Image.fromarray(make.grey(20)[19]).save(tmp_path / "a.tiff", compression=compression)
    if compression == "jpeg":
        with pytest.raises(BrokenVideoError, match="TIFF picture of JPEG data"):
            load_clip(tmp_path / "a.tiff")
    else:
        assert make.numbers(load_clip(tmp_path / "a.tiff").frames) == [19]


@pytest.mark.parametrize("name", ["a.tiff", "a.bmp", "a.ppm", "a.png"])
def test_a_picture_is_read_however_much_of_it_is_one_packet(tmp_path, make, monkeypatch, name):
    noise = np.random.default_rng(0).integers(0, 256, (1000, 1200, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / name)
    monkeypatch.setattr(limits, "MAX_BARREN_BYTES", 2**16)
    assert np.array_equal(load_clip(tmp_path / name).frames[0], noise)


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.tiff", "a.webp"])
def test_too_large_a_picture_is_told_its_size(tmp_path, make, monkeypatch, name):
    Image.fromarray(make.grey(1)[0]).save(tmp_path / name)
    monkeypatch.setattr(limits, "MAX_FRAME_PIXELS", 64 * 48 - 1)
    with pytest.raises(VideoTooLargeError, match="64x48"):
        load_clip(tmp_path / name)
