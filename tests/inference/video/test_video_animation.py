"""Pictures that move: WebP, PNG, GIF."""

import numpy as np
import pytest
from PIL import Image, features

from framefusion.core.errors import BrokenVideoError, VideoTooLargeError
from framefusion.inference.video import load_clip

pytest.importorskip("av")

DURATIONS = [100, 200, 50, 400, 100, 100]


def save(path, pictures, **options):
    if path.suffix == ".webp" and not features.check("webp"):
        pytest.skip("this Pillow has no WebP")
    first, *others = [Image.fromarray(picture) for picture in pictures]
    first.save(path, save_all=True, append_images=others, **options)
    return path


@pytest.mark.parametrize("name", ["a.webp", "a.png", "a.gif"])
def test_frames_and_times_of_animations(tmp_path, make, name):
    options = {"lossless": True} if name == "a.webp" else {}
    path = save(tmp_path / name, make.grey(6), duration=DURATIONS, loop=0, **options)
    clip = load_clip(path)
    assert make.numbers(clip.frames) == list(range(6)) and clip.total_frames == 6 and not clip.damaged
    assert clip.timestamps == pytest.approx([0, 0.1, 0.3, 0.35, 0.75, 0.85])
    assert clip.duration == pytest.approx(0.95) and clip.frames.shape == (6, 48, 64, 3)
    few = load_clip(path, frames=2, max_side=32)
    assert few.indices == (0, 5) and few.frames.shape == (2, 24, 32, 3)
    assert load_clip(path, fps=10).timestamps == pytest.approx([0, 0.1, 0.3, 0.75, 0.85])


def test_a_webp_without_durations_goes_at_the_usual_pace(tmp_path, make):
    clip = load_clip(save(tmp_path / "z.webp", make.grey(4), duration=0, lossless=True))
    assert clip.total_frames == 4 and clip.timestamps == pytest.approx([0, 0.1, 0.2, 0.3])
    assert clip.duration == pytest.approx(0.4)


def test_frames_without_a_duration_leave_the_others_theirs(tmp_path, make):
    for name in ("z.webp", "z.gif"):
        clip = load_clip(save(tmp_path / name, make.grey(5), duration=[0, 300, 0, 50, 20], loop=0))
        assert clip.timestamps == pytest.approx([0, 0.1, 0.4, 0.5, 0.55]) and clip.duration == pytest.approx(0.57)


def test_still_webp_pictures(tmp_path, make):
    plain = make.grey(1)[0]
    Image.fromarray(plain).save(tmp_path / "s.webp", lossless=True)
    Image.fromarray(np.dstack([plain, plain[..., 0]])).save(tmp_path / "alpha.webp", lossless=True)
    for name in ("s.webp", "alpha.webp"):
        clip = load_clip(tmp_path / name)
        assert clip.total_frames == 1 and make.numbers(clip.frames) == [0]


def test_a_mirrored_animated_webp(tmp_path):
    pictures = np.zeros((3, 48, 64, 3), np.uint8)
    pictures[:, :, :32] = 255
    exif = Image.Exif()
    exif[0x0112] = 2
    clip = load_clip(save(tmp_path / "m.webp", pictures + np.arange(3, dtype=np.uint8)[:, None, None, None], exif=exif))
    assert clip.frames[0][:, 32:].mean() > 200 > 50 > clip.frames[0][:, :32].mean()


def test_bounds_hold_for_animations(tmp_path, make):
    path = save(tmp_path / "b.webp", make.grey(6), duration=100, lossless=True)
    assert len(load_clip(path, max_pixels=6 * 48 * 64).frames) == 6
    with pytest.raises(VideoTooLargeError):
        load_clip(path, max_pixels=6 * 48 * 64 - 1)


def test_an_animation_cut_off_is_broken(tmp_path, make):
    noise = np.random.default_rng(0).integers(0, 256, (6, 48, 64, 3), dtype=np.uint8)
    path = save(tmp_path / "c.webp", noise, duration=100, lossless=True)
    for share in (0.01, 0.5, 0.9):
        cut = tmp_path / "cut.webp"
        cut.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
        with pytest.raises(BrokenVideoError):
            load_clip(cut)
