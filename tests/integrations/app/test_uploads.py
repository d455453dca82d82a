"""What visitors dropped: each sees its own, under no name of theirs, and nothing outlives its time."""

from __future__ import annotations

from pathlib import Path

import pytest

from framefusion.core.errors import VideoNotFoundError, VideoTooLargeError
from framefusion.integrations.app.limits import KEPT_SECONDS, STORED, Limits
from framefusion.integrations.app.uploads import Uploads, is_full


class Clock:
    seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def uploads(tmp_path: Path) -> Uploads:
    (tmp_path / "own").mkdir()
    return Uploads(tmp_path / "own", Limits(upload=10), Clock())


def arrive(tmp_path: Path, content: bytes = b"clip") -> Path:
    place = tmp_path / "arrived" / "hash"
    place.mkdir(parents=True, exist_ok=True)
    (place / "name.mp4").write_bytes(content)
    return place / "name.mp4"


def test_each_visitor_has_one_clip_and_no_other(uploads, tmp_path):
    first = uploads.take("a", arrive(tmp_path, b"one"), "one.mp4")
    second = uploads.take("b", arrive(tmp_path, b"two"), "one.mp4")
    assert uploads.of("a").path.read_bytes() == b"one" and uploads.of("b").path.read_bytes() == b"two"
    third = uploads.take("a", arrive(tmp_path, b"three"), "three.mp4")
    assert not first.path.exists() and second.path.exists() and uploads.of("a") == third
    assert len({first.path, second.path, third.path}) == 3
    with pytest.raises(VideoNotFoundError, match="no clip"):
        uploads.of("c")


def test_what_arrived_is_gone_from_where_gradio_serves_it(uploads, tmp_path):
    arrived = arrive(tmp_path)
    uploads.take("a", arrived, "x.mp4")
    assert not arrived.exists() and not arrived.parent.exists()
    with pytest.raises(VideoNotFoundError, match="did not arrive"):
        uploads.take("a", arrived, "x.mp4")


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("../../etc/passwd.mp4", "passwd.mp4"),
        ("..\\..\\x.mp4", "x.mp4"),
        ("/a/b.mp4", "b.mp4"),
        ("..", ".."),
        ("a\nb\u202e.mp4", "a b\\u202e.mp4"),
        ("<b>.mp4", "<b>.mp4"),
    ],
)
def test_a_name_leads_nowhere(uploads, tmp_path, name, shown):
    upload = uploads.take("a", arrive(tmp_path), name)
    assert upload.name == shown
    assert upload.path.parent == uploads.folder and name not in upload.path.name
    assert sorted(path.name for path in tmp_path.iterdir()) == ["arrived", "own"]


def test_long_names_are_shortened(uploads, tmp_path):
    assert len(uploads.take("a", arrive(tmp_path), "x" * 5000 + ".mp4").name) <= 81


def test_clips_go_when_their_visitor_does_and_after_an_hour(uploads, tmp_path):
    upload = uploads.take("a", arrive(tmp_path), "x.mp4")
    uploads.now.seconds = KEPT_SECONDS
    uploads.expire()
    assert upload.path.exists()
    uploads.now.seconds += 1
    uploads.expire()
    assert not upload.path.exists()
    uploads.take("a", arrive(tmp_path), "x.mp4")
    uploads.drop("a")
    uploads.drop("a")
    assert list(uploads.folder.iterdir()) == []


def test_too_much_is_refused_and_deleted(uploads, tmp_path):
    arrived = arrive(tmp_path, b"x" * 11)
    with pytest.raises(VideoTooLargeError, match="11 bytes"):
        uploads.take("a", arrived, "x.mp4")
    assert not arrived.exists()
    for visitor in range(STORED):
        uploads.take(str(visitor), arrive(tmp_path, b"x" * 10), "x.mp4")
    with pytest.raises(VideoTooLargeError, match="too many clips"):
        uploads.take("one more", arrive(tmp_path, b"x"), "x.mp4")
    assert len(list(uploads.folder.iterdir())) == STORED


def test_what_became_nobody_s_clip_is_counted(uploads, tmp_path):
    arrived = tmp_path / "arrived"
    for number in range(STORED):
        assert not is_full(arrived, uploads.limits)
        (arrived / str(number)).mkdir(parents=True)
        (arrived / str(number) / "x.mp4").write_bytes(b"x" * uploads.limits.upload)
    assert is_full(arrived, uploads.limits)
