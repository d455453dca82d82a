import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from framefusion.core.errors import OptionError, VideoError
from framefusion.inference.video import Clip, load_clip, write_clip

av = pytest.importorskip("av")
REAL = Path(__file__).resolve().parents[3].parent / "shared" / "videos"


@pytest.fixture
def clip30(tmp_path, make):
    path = tmp_path / "clip.mp4"
    write_clip(path, make.grey(30), fps=10)
    return path


def test_import_loads_no_heavy_library():
    code = "import sys, framefusion.inference.video as v; print(sys.modules.keys() & {'av', 'torch', 'transformers'})"
    root = Path(__file__).resolve().parents[3]
    assert (
        subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True).stdout.strip() == "set()"
    )


def test_a_written_clip_comes_back(clip30, make):
    clip = load_clip(clip30)
    assert isinstance(clip, Clip) and clip.frames.dtype == np.uint8 and clip.frames.shape == (30, 48, 64, 3)
    assert make.numbers(clip.frames) == list(range(30))
    assert clip.indices == tuple(range(30)) and clip.total_frames == 30 and not clip.damaged
    assert clip.fps == 10 and clip.duration == pytest.approx(3.0)
    assert clip.timestamps == pytest.approx([n / 10 for n in range(30)])
    assert clip.source == str(clip30)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"frames": 4}, [0, 10, 19, 29]),
        ({"frames": 1}, [0]),
        ({"frames": None}, list(range(30))),
        ({"fps": 2.0}, [0, 5, 10, 15, 20, 25]),
        ({"fps": 2.0, "frames": 2}, [0, 29]),
        ({"fps": 0.001}, [0]),
        ({"fps": 1000, "frames": None}, list(range(30))),
    ],
)
def test_the_pixels_are_those_of_the_chosen_frames(clip30, make, options, expected):
    clip = load_clip(clip30, **options)
    assert make.numbers(clip.frames) == expected == list(clip.indices)
    assert clip.total_frames == 30 and clip.duration == pytest.approx(3.0) and clip.fps == 10
    assert clip.timestamps == pytest.approx([n / 10 for n in expected])


def test_memory_is_that_of_the_kept_frames(clip30):
    frames = load_clip(clip30, frames=3).frames
    whole = frames if frames.base is None else frames.base
    assert whole.nbytes == 3 * 48 * 64 * 3


def test_metadata_fills_the_fields_of_transformers(clip30):
    video_utils = pytest.importorskip("transformers.video_utils")
    clip = load_clip(clip30, frames=4)
    metadata = video_utils.VideoMetadata(**clip.metadata())
    assert metadata.frames_indices == [0, 10, 19, 29] and metadata.total_num_frames == 30
    assert (metadata.width, metadata.height, metadata.video_backend) == (64, 48, "pyav")
    assert metadata.timestamps == pytest.approx(list(clip.timestamps))


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("a.webm", "libvpx", {"auto-alt-ref": "1", "lag-in-frames": "16"}),
        ("a.webm", "libvpx-vp9", {}),
        ("a.mkv", "libx264", {"bf": "3"}),
        ("a.avi", "mpeg4", {"bf": "2", "b": "4000000"}),
        ("a.avi", "mjpeg", {}),
        ("a.ts", "libx264", {}),
        ("a.h264", "libx264", {}),
        ("a.mov", "mpeg4", {"b": "4000000"}),
    ],
)
@pytest.mark.parametrize("count", [1, 30])
def test_containers_with_and_without_a_frame_count(tmp_path, make, name, codec, options, count):
    path = make.encode(tmp_path / name, make.grey(count), codec, options=options)
    clip = load_clip(path, frames=5)
    expected = [0] if count == 1 else [0, 7, 14, 22, 29]
    assert len(clip.indices) == len(expected) and np.abs(np.subtract(clip.indices, expected)).max() <= 1
    assert np.abs(np.subtract(make.numbers(clip.frames), clip.indices)).max() <= (1 if codec == "libvpx" else 0)
    assert clip.total_frames == count and not clip.damaged and clip.fps > 0 and clip.duration > 0
    if count > 1:
        assert clip.fps == pytest.approx(30) and clip.duration == pytest.approx(1, abs=0.002)


@pytest.mark.parametrize("declared", [3, 5000])
def test_a_wrong_frame_count_in_the_header_is_not_believed(tmp_path, make, declared):
    path = make.encode(tmp_path / "a.avi", make.grey(30), "mpeg4")
    data = bytearray(path.read_bytes())
    for box, offset in ((b"avih", 24), (b"strh", 40)):
        at = data.index(box) + offset
        data[at : at + 4] = declared.to_bytes(4, "little")
    path.write_bytes(data)
    clip = load_clip(path, frames=4)
    assert make.numbers(clip.frames) == [0, 10, 19, 29] and clip.total_frames == 30
    assert clip.damaged == (declared > 30)


def test_variable_frame_rate_is_sampled_by_time(tmp_path, make):
    stamps = list(range(20)) + [20 + 30 * n for n in range(10)]
    path = make.encode(tmp_path / "vfr.mkv", make.grey(30), pts=stamps)
    clip = load_clip(path, frames=10)
    assert make.numbers(clip.frames) == list(clip.indices) == [0, 20, 21, 23, 24, 25, 26, 27, 28, 29]
    assert clip.timestamps == pytest.approx([stamps[n] / 30 for n in clip.indices], abs=0.002)
    metadata = clip.metadata()
    assert np.divide(metadata["frames_indices"], metadata["fps"]) == pytest.approx(clip.timestamps, abs=1e-6)
    assert list(load_clip(path, fps=1.0).indices) == [0, *range(21, 30)]


@pytest.mark.parametrize(("degrees", "turns"), [(90, 1), (180, 2), (-90, 3), (0, 0), (45, 0)])
def test_display_rotation_is_applied(tmp_path, make, degrees, turns):
    pictures = make.grey(3)
    pictures[:, :24, :32] = 255
    path = make.encode(tmp_path / "r.mp4", pictures, prepare=lambda stream: stream.set_display_rotation(degrees))
    clip = load_clip(path, max_side=32)
    upright = np.rot90(pictures[:, ::2, ::2], turns, axes=(1, 2))
    assert clip.frames.shape == upright.shape
    assert np.abs(clip.frames.astype(int) - upright).mean() < 4


def test_a_phone_held_upright_is_turned_clockwise(tmp_path, make):
    pictures = make.grey(2)
    pictures[:, :24, :32] = 255
    matrix = [0, 65536, 0, -65536, 0, 0, 0, 0, 1 << 30]
    path = make.encode(tmp_path / "r.mp4", pictures, prepare=lambda stream: stream.set_display_matrix(matrix))
    frame = load_clip(path).frames[0]
    assert frame.shape == (64, 48, 3) and frame[:32, 24:].mean() > 240 and frame[:32, :24].mean() < 60


@pytest.mark.parametrize(("side", "size"), [(32, (24, 32)), (7, (5, 7)), (1, (1, 1)), (64, (48, 64)), (999, (48, 64))])
def test_max_side_shrinks_and_never_enlarges(clip30, make, side, size):
    clip = load_clip(clip30, frames=4, max_side=side)
    assert clip.frames.shape == (4, *size, 3) and make.numbers(clip.frames) == [0, 10, 19, 29]


def test_colours_survive_both_standards(tmp_path, make):
    red = np.zeros((2, 48, 64, 3), np.uint8)
    red[..., 0] = 255
    for side in (None, 20):
        write_clip(tmp_path / "red.mp4", red)
        assert np.abs(load_clip(tmp_path / "red.mp4", max_side=side).frames - red[0, 0, 0].astype(int)).max() < 6


def test_a_stream_that_changes_its_size_keeps_the_first_one(tmp_path, make):
    small = make.encode(tmp_path / "s.h264", make.grey(10)).read_bytes()
    large = make.encode(tmp_path / "l.h264", make.grey(10, 96, 128)).read_bytes()
    (tmp_path / "both.h264").write_bytes(small + large)
    clip = load_clip(tmp_path / "both.h264")
    assert clip.frames.shape == (20, 48, 64, 3) and make.numbers(clip.frames) == [*range(10), *range(10)]


def test_a_stream_that_appears_on_the_way_is_no_error(tmp_path, make):
    noise = np.random.default_rng(0).integers(0, 256, (30, 240, 320, 3), dtype=np.uint8)
    silent = make.encode(tmp_path / "v.ts", noise, options={"preset": "ultrafast"}).read_bytes()
    with av.open(str(tmp_path / "late.ts"), "w") as output:
        picture, sound = output.add_stream("mpeg2video", rate=30), output.add_stream("mp2", rate=16000)
        picture.width, picture.height, picture.pix_fmt = 320, 240, "yuv420p"
        output.start_encoding()
        beep = av.AudioFrame.from_ndarray(np.zeros((1, 1152), np.int16), "s16", "mono")
        beep.sample_rate, beep.pts = 16000, 0
        output.mux(sound.encode(beep))
        output.mux(sound.encode(None))
    # The sound comes later than a demuxer looks for streams before it starts.
    (tmp_path / "late.ts").write_bytes(silent * 5 + (tmp_path / "late.ts").read_bytes() + silent)
    with av.open(str(tmp_path / "late.ts")) as container:
        assert len(container.streams) == 1
    clip = load_clip(tmp_path / "late.ts", frames=4)
    assert clip.total_frames == 180 and clip.indices == (0, 60, 119, 179)


def test_odd_sizes_are_written_with_one_more_row_and_column(tmp_path):
    write_clip(tmp_path / "odd.mp4", np.full((2, 33, 47, 3), 128, np.uint8), fps=29.97)
    clip = load_clip(tmp_path / "odd.mp4")
    assert clip.frames.shape == (2, 34, 48, 3) and clip.fps == pytest.approx(29.97)


@pytest.mark.parametrize(
    "frames",
    [
        np.zeros((0, 8, 8, 3), np.uint8),
        np.zeros((2, 8, 8, 3)),
        np.zeros((8, 8, 3), np.uint8),
        np.zeros((1, 8, 8, 4), "u1"),
    ],
)
def test_only_pictures_can_be_written(tmp_path, frames):
    with pytest.raises(OptionError):
        write_clip(tmp_path / "no.mp4", frames)


def test_writing_into_a_missing_folder_is_explained(tmp_path, make):
    with pytest.raises(VideoError, match="cannot be written"):
        write_clip(tmp_path / "no" / "a.mp4", make.grey(1))
    with pytest.raises(OptionError):
        write_clip(tmp_path / "a.mp4", make.grey(1), fps=0)
    with pytest.raises(OptionError):
        write_clip(tmp_path / "a.mp4", make.grey(1), fps=1e-9)


@pytest.mark.parametrize(
    "options",
    [{"frames": 0}, {"frames": 2.0}, {"fps": -1}, {"fps": "2"}, {"max_pixels": 0}, {"max_side": 0}, {"max_side": 1.5}],
)
def test_invalid_options_are_refused_before_the_file_is_touched(tmp_path, options):
    with pytest.raises(OptionError, match=next(iter(options))):
        load_clip(tmp_path / "missing.mp4", **options)


@pytest.mark.parametrize(("name", "size", "total"), [("bikes", (272, 640), 250), ("bigbuckbunny", (720, 1280), 132)])
def test_real_clips(name, size, total):
    path = REAL / f"{name}.mp4"
    if not path.is_file():
        pytest.skip("the shared clips are not here")
    clip = load_clip(path, frames=8)
    assert clip.frames.shape == (8, *size, 3) and clip.total_frames == total and clip.indices[-1] == total - 1
    assert clip.fps == 25 and clip.duration == pytest.approx(total / 25) and not clip.damaged
    assert len(load_clip(path, fps=2).indices) == pytest.approx(total / 25 * 2, abs=1)
    assert clip.frames.std() > 20
