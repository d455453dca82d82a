"""Which files patterns name, where links go in circles and names are odd."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from framefusion.core.errors import OptionError
from framefusion.inference.batch import find_videos


@pytest.fixture
def videos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with files, entered."""
    folder = tmp_path.resolve() / "videos"
    for name in ("a.mp4", "deep/b.mp4", "deep/er/c.mp4", ".hidden/d.mp4"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    monkeypatch.chdir(folder)
    return folder


def names(folder: Path, *patterns: str) -> list[str]:
    return [os.path.relpath(path, folder) for path in find_videos(patterns)]


ALL = ["a.mp4", "deep/b.mp4", "deep/er/c.mp4"]


@pytest.mark.parametrize("pattern", ["**/*.mp4", "./**/*.mp4", "**/**/*.mp4", "**", "**/[a-c].mp4", "{here}/**/*.mp4"])
def test_two_stars_stand_for_any_folders(videos: Path, pattern: str) -> None:
    assert names(videos, pattern.format(here=videos)) == ALL


def test_other_patterns(videos: Path) -> None:
    assert names(videos, "*/**/*.mp4") == ALL[1:]
    assert names(videos, "deep/**/er/*.mp4") == names(videos, "**/er/**/*.mp4") == ALL[2:]
    assert names(videos, ".hidden/**/*.mp4") == [".hidden/d.mp4"]
    assert names(videos, "deep/*.mp4", "**/*.mp4") == ["deep/b.mp4", "a.mp4", "deep/er/c.mp4"]


def test_links_in_circles(videos: Path) -> None:
    """One of these stops only at the system's limit on links, two of them double the work at each of its steps."""
    for name in ("loop", "again", "deep/up", "deep/er/top"):
        (videos / name).symlink_to(videos)
    assert names(videos, "**/*.mp4") == ALL
    assert names(videos, "loop/**/*.mp4") == [f"loop/{name}" for name in ALL]


@pytest.mark.parametrize("pattern", ["**/*/" * 12 + "*.mp4", "*/" * 30 + "*.mp4", "**/l*/" * 9 + "*/*.mp4"])
def test_links_to_one_another_do_not_multiply(videos: Path, pattern: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every folder leads to every other one, so that the names of a depth are as many as 4 to its power."""
    for one in range(4):
        (videos / f"d{one}").mkdir()
        (videos / f"d{one}" / f"{one}.mp4").touch()
        for other in range(4):
            (videos / f"d{one}" / f"l{other}").symlink_to(videos / f"d{other}")
    listed, scandir = [], os.scandir

    def counted(folder: str) -> object:
        listed.append(folder)
        assert len(listed) < 20_000
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", counted)
    assert {os.path.basename(path) for path in names(videos, pattern)} >= {f"{one}.mp4" for one in range(4)}


def test_a_file_of_several_names_is_read_once(videos: Path, tmp_path: Path) -> None:
    (videos / "0.mp4").symlink_to("a.mp4")
    (videos / "Z").symlink_to("deep")
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "e.mp4").touch()
    for name in ("first", "second"):
        (videos / name).symlink_to(outside)
    assert names(videos, "**/*.mp4") == [*ALL, "first/e.mp4"]
    # A name that was asked for is kept.
    assert names(videos, "0.mp4", "a.mp4") == ["0.mp4"]


def test_links_to_nothing_are_named(videos: Path) -> None:
    for name in ("gone.mp4", "lost.mp4"):
        (videos / name).symlink_to("nowhere.mp4")
    (videos / "self.mp4").symlink_to("self.mp4")
    assert names(videos, "**/*.mp4") == [*ALL, "gone.mp4", "lost.mp4", "self.mp4"]


@pytest.mark.parametrize("folder", ["[2024] clips", "c[/old]", "*", "a?b", "]x["])
def test_a_folder_whose_name_looks_like_a_pattern(videos: Path, folder: str) -> None:
    (videos / folder / "more").mkdir(parents=True)
    (videos / folder / "more" / "x.mp4").touch()
    assert names(videos, f"{folder}/more/*.mp4") == [f"{folder}/more/x.mp4"]
    assert f"{folder}/more/x.mp4" in names(videos, f"{folder}/**/*.mp4")


def test_what_no_pattern_matches_says_how_brackets_are_written(videos: Path) -> None:
    with pytest.raises(OptionError, match=r"\[\[\]"):
        find_videos(["[x]/*.mp4"])


@pytest.mark.parametrize("name", ["zero\0.mp4", "n" * 5000])
def test_a_name_that_nothing_can_have_becomes_a_row(videos: Path, name: str) -> None:
    assert names(videos, name) == [name]


def test_a_folder_that_may_not_be_read_holds_nothing(videos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listed = os.listdir

    def refused(folder: str) -> list[str]:
        if str(folder).endswith("deep"):
            raise PermissionError(folder)
        return listed(folder)

    monkeypatch.setattr(os, "listdir", refused)
    assert names(videos, "**/[a-c].mp4") == ["a.mp4", "deep/b.mp4"]
