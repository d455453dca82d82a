"""Output that cannot be written, or that nobody reads: one line at most, and no traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from framefusion.cli import app
from framefusion.cli.app import run_app

FULL = Path("/dev/full")
COMMAND = [sys.executable, "-m", "framefusion"]


def run(words: list[str], redirection: str) -> subprocess.CompletedProcess[str]:
    line = " ".join([*COMMAND, *words, redirection])
    return subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=120)


@pytest.mark.slow
@pytest.mark.skipif(not FULL.exists(), reason="needs a device that is always full")
@pytest.mark.parametrize("words", [["methods", "--json"], ["models"], ["--version"]], ids=" ".join)
def test_a_full_disk_behind_the_output(words: list[str]) -> None:
    done = run(words, "> /dev/full")
    assert done.returncode == 2
    assert done.stderr.splitlines()[0] == "error: cannot read or write the output: No space left on device"
    assert len(done.stderr.splitlines()) == 2


@pytest.mark.slow
@pytest.mark.skipif(not FULL.exists(), reason="needs a device that is always full")
def test_messages_that_cannot_be_written_either() -> None:
    done = run(["models"], "> /dev/full 2>&1")
    assert done.returncode == 2 and done.stderr == ""


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="needs a shell that closes streams")
@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
def test_streams_that_the_shell_closed(closed: str) -> None:
    done = run(["methods", "--json"], closed)
    assert done.returncode == 0 and "Traceback" not in done.stderr


def test_a_reader_that_has_gone(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def gone(*arguments: object, **options: object) -> None:
        raise BrokenPipeError

    monkeypatch.setattr(app, "app", gone)
    assert run_app(["models"]) == 1
    assert capsys.readouterr() == ("", "")


def test_a_file_that_vanished_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(app, "app", lambda *arguments, **options: Path("nowhere/at-all").read_bytes())
    assert run_app(["models"]) == 2
    assert "nowhere/at-all: No such file" in capsys.readouterr().err
