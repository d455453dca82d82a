"""A file is written whole or not at all, whatever happens on the way and whatever stands there."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from framefusion.core.destination import append, check_file, open_to_append, put, put_new, replacing
from framefusion.core.errors import OptionError
from framefusion.core.text import visible


@pytest.fixture
def place(tmp_path: Path) -> Path:
    found = tmp_path / "page.html"
    found.write_bytes(b"old")
    return found


def test_it_is_replaced_at_the_end(place: Path) -> None:
    place.chmod(0o640)
    with replacing(place) as file:
        file.write(b"new")
        assert place.read_bytes() == b"old"
        beside = [path.name for path in place.parent.iterdir() if path != place]
        assert len(beside) == 1 and beside[0].startswith(".framefusion-")
    assert place.read_bytes() == b"new" and stat.S_IMODE(place.stat().st_mode) == 0o640
    assert os.listdir(place.parent) == [place.name]


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError, ValueError])
def test_what_fails_leaves_the_old_file(place: Path, error: type[BaseException]) -> None:
    with pytest.raises(error), replacing(place) as file:
        file.write(b"half")
        raise error
    assert place.read_bytes() == b"old" and os.listdir(place.parent) == [place.name]


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_disk_that_fills_up_leaves_the_old_file(place: Path, call: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, call, full)
    with pytest.raises(OptionError, match="No space left"):
        put(place, b"new")
    assert place.read_bytes() == b"old" and os.listdir(place.parent) == [place.name]


def test_a_link_that_is_planted_on_the_way_is_not_followed(place: Path, tmp_path: Path) -> None:
    foreign = tmp_path / "foreign"
    foreign.write_bytes(b"theirs")
    with pytest.raises(OSError, match="link"), replacing(place) as file:
        file.write(b"new")
        place.unlink()
        place.symlink_to(foreign)
    assert foreign.read_bytes() == b"theirs" and place.is_symlink()
    with pytest.raises(OSError, match="link"):
        open_to_append(place)


def test_a_planted_temporary_name_is_not_taken(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even a name that was foreseen is neither followed nor written over."""
    foreign = place.with_name("foreign")
    foreign.write_bytes(b"theirs")
    monkeypatch.setattr("secrets.token_hex", lambda count: "0")
    place.with_name(".framefusion-0.new").symlink_to(foreign)
    with pytest.raises(OptionError):
        put(place, b"new")
    assert foreign.read_bytes() == b"theirs" and place.read_bytes() == b"old"


def test_half_a_line_is_taken_back(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written, write = [], os.write

    def full(file: int, data: bytes) -> int:
        if written:
            raise OSError(errno.ENOSPC, "No space left on device")
        written.append(write(file, data[:3]))
        return 3

    file = open_to_append(place)
    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="No space"):
        append(file, b"a line\n")
    os.close(file)
    assert written and place.read_bytes() == b"old"


def test_a_new_file_takes_no_name_that_is_taken(place: Path) -> None:
    (place.parent / "page.html.1").symlink_to("nowhere")
    assert put_new(place, b"new").name == "page.html.2"
    assert place.read_bytes() == b"old" and not (place.parent / "nowhere").exists()


def test_asking_changes_nothing(place: Path) -> None:
    before = place.parent.stat().st_nlink, os.listdir(place.parent)
    check_file(place, "--out", ours=lambda path: True)
    check_file(place.with_name("deep") / "er" / "a.jsonl", "--out", parents=True)
    assert (place.parent.stat().st_nlink, os.listdir(place.parent)) == before


def test_a_terminal_without_the_letters_ends_no_command(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "framefusion", "view", "nowhere.mp4", "--out", "répondre.回"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "PYTHONIOENCODING": "ascii:strict"}
    done = subprocess.run(words, capture_output=True, cwd=tmp_path, env=environment, check=False)
    assert done.returncode == 2 and b"Traceback" not in done.stderr and b"r\\xe9pondre" in done.stderr
    assert visible("é") == "é"
