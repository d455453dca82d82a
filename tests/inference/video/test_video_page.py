"""The table of docs/video.md is what these files give."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from framefusion.core.errors import BrokenVideoError
from framefusion.inference.video import load_clip

av = pytest.importorskip("av")
PAGE = Path(__file__).resolve().parents[3] / "docs" / "video.md"


def equal_stamps(folder, make):
    return make.encode(folder / "a.mkv", make.grey(6), rate=10000, pts=[0, 400, 800, 804, 1200, 1600]), {}


def out_of_order(folder, make):
    return make.encode(folder / "a.avi", make.grey(6), rate=25, options={"bf": "2"}), {}


def dropped(folder, make):
    return make.encode(folder / "a.avi", make.grey(6), "mpeg4", 25, [0, 1, 2, 6, 7, 9]), {}


def slides(folder, make):
    stamps = [second * 600 for second in (0, 20, 21, 22, 300, 600)]
    return make.encode(folder / "a.mp4", make.grey(6), rate=600, pts=stamps, options={"bf": "0"}), {}


def still_minute(folder, make):
    stamps = [*range(12), *range(612, 624)]
    return make.encode(folder / "a.mp4", make.grey(24), rate=10, pts=stamps, options={"bf": "0"}), {"frames": 8}


def joined(folder, make):
    one = make.encode(
        folder / "one.ts", make.grey(40), rate=10, options={"g": "10", "preset": "ultrafast"}
    ).read_bytes()
    (folder / "a.ts").write_bytes(one + one)
    return folder / "a.ts", {"frames": 6}


def mirrored(folder, make):
    matrix = [-65536, 0, 0, 0, 65536, 0, 0, 0, 1 << 30]
    return make.encode(folder / "a.mp4", make.grey(3), prepare=lambda stream: stream.set_display_matrix(matrix)), {}


def transposed(folder, make):
    matrix = [0, 65536, 0, 65536, 0, 0, 0, 0, 1 << 30]
    return make.encode(folder / "a.mov", make.grey(3), prepare=lambda stream: stream.set_display_matrix(matrix)), {}


def photo(folder, make):
    exif = Image.Exif()
    exif[0x0112] = 5
    Image.fromarray(make.grey(1)[0]).save(folder / "a.jpg", exif=exif)
    return folder / "a.jpg", {}


def broadcast(folder, make):
    def prepare(stream):
        stream.codec_context.sample_aspect_ratio = Fraction(64, 45)

    return make.encode(folder / "a.mp4", make.grey(3, 48, 60), prepare=prepare), {}


def animated(folder, make):
    first, *others = [Image.fromarray(picture) for picture in make.grey(4)]
    first.save(folder / "a.webp", save_all=True, append_images=others, duration=[100, 200, 50, 400], lossless=True)
    return folder / "a.webp", {}


def cut_off(folder, make):
    noise = np.random.default_rng(0).integers(0, 256, (30, 48, 64, 3), dtype=np.uint8)
    options = {"container_options": {"movflags": "frag_keyframe+empty_moov"}, "options": {"g": "5", "bf": "0"}}
    path = make.encode(folder / "a.mp4", noise, rate=10, **options)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    return path, {"fps": 1.25}


def windows_media(count):
    return lambda folder, make: (make.encode(folder / "a.wmv", make.grey(count), "wmv2", rate=5), {})


def ogg(folder, make):
    return make.encode(folder / "a.ogv", make.grey(6), "libvpx", 10, [0, 1, 2, 30, 31, 60]), {}


def no_durations(folder, make):
    first, *others = [Image.fromarray(picture) for picture in make.grey(4)]
    first.save(folder / "a.webp", save_all=True, append_images=others, duration=0, lossless=True)
    return folder / "a.webp", {}


def tiff(compression):
    def save(folder, make):
        Image.fromarray(make.grey(1)[0]).save(folder / "a.tiff", compression=compression)
        return folder / "a.tiff", {}

    return save


def uncompressed(folder, make):
    Image.new("RGB", (8192, 2800), "gray").save(folder / "a.bmp")
    return folder / "a.bmp", {}


ROWS = {
    "Matroska, frames at 0, 40, 80, 80.4, 120 and 160 ms: two stamps are equal": equal_stamps,
    "AVI, H.264 with B-frames: no presentation times": out_of_order,
    "AVI, empty chunks for frames dropped after the third and the fifth": dropped,
    "MP4, slides at 0, 20, 21, 22, 300 and 600 s": slides,
    "MP4, a second of motion, a still minute, a second of motion; 8 frames": still_minute,
    "transport stream, two recordings of 4 s joined; 6 frames": joined,
    "MP4, 64 × 48, mirrored by its display matrix": mirrored,
    "MOV, 64 × 48, transposed by its display matrix": transposed,
    "JPEG, 64 × 48, EXIF orientation 5": photo,
    "MP4, 60 × 48, pixels of 64:45": broadcast,
    "WebP, animated, frames of 100, 200, 50 and 400 ms": animated,
    "WebP, animated, frames of 0 ms": no_durations,
    "WMV, one frame of five per second": windows_media(1),
    "WMV, two frames of five per second": windows_media(2),
    "Ogg, VP8, written at 0, 0.1, 0.2, 3, 3.1 and 6 s": ogg,
    "BMP, 66 MiB in one piece": uncompressed,
    "TIFF, LZW": tiff("tiff_lzw"),
    "TIFF, JPEG data": tiff("jpeg"),
    "MP4 in fragments, cut off; a frame every 0.8 s": cut_off,
}


def row(title, path, options):
    try:
        clip = load_clip(path, **options)
    except BrokenVideoError:
        return f"| {title} | refused | | | |"
    seconds = ", ".join(f"{time:.2f}".rstrip("0").rstrip(".") for time in clip.timestamps)
    _, height, width, _ = clip.frames.shape
    frames = f"{len(clip.frames)} of {clip.total_frames}"
    return f"| {title} | {frames} | {seconds} | {width} × {height} | {'yes' if clip.damaged else 'no'} |"


@pytest.mark.parametrize("title", ROWS)
def test_the_page_says_what_is_read(tmp_path, make, title):
    path, options = ROWS[title](tmp_path, make)
    assert row(title, path, options) in PAGE.read_text(encoding="utf-8").splitlines()


def test_the_page_has_no_other_rows():
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    table = lines[lines.index("| file | frames | seconds | shape | damaged |") + 2 :]
    found = [line.split(" | ")[0].removeprefix("| ") for line in table[: table.index("")]]
    assert found == list(ROWS)
