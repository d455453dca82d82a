"""Files that are made to break a decoder or to take all memory, given to the commands: one line each, or one row."""

from __future__ import annotations

import json
import os
import resource
import struct
import zipfile
import zlib
from pathlib import Path

import pytest
from PIL import Image

from framefusion.cli.app import run_app
from tests.support.bombs import BOMBS, MIB, chunk

SIDES = 100_000
QUESTION = "<script>alert(1)</script> what changed?"
KINDS = ("archive", "sides", "circle", "pipe", "folder", *BOMBS)
TOO_LARGE = {"sides", *BOMBS}


def make(kind: str, folder: Path) -> str:
    """The name of a new file or folder."""
    path = folder / f"{kind.replace(' ', '-')}.mp4"
    if kind == "archive":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("../../clip.mp4", bytes(64 * MIB))
    elif kind == "sides":
        head = struct.pack(">IIBBBBB", SIDES, SIDES, 8, 2, 0, 0, 0)
        pixels = chunk(b"IDAT", zlib.compress(bytes(MIB)))
        path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + pixels + chunk(b"IEND", b""))
    elif kind == "circle":
        path.symlink_to(path.name)
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
        Image.new("RGB", (16, 16)).save(path / "0.png")
        os.mkfifo(path / "1.png")
    else:
        path.write_bytes(BOMBS[kind]())
    return path.name


@pytest.fixture(scope="module")
def warm(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A good picture was read and answered, so that libraries and the model take no more memory later."""
    path = tmp_path_factory.mktemp("good") / "good.png"
    Image.new("RGB", (112, 112)).save(path)
    assert run_app(["run", str(path), QUESTION, "--max-new-tokens", "1"]) == 0


@pytest.mark.slow
@pytest.mark.usefixtures("warm")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("command", ["run", "view"])
def test_it_is_one_line(
    command: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "inner").mkdir()
    monkeypatch.chdir(tmp_path / "inner")
    name = os.path.join("..", make(kind, tmp_path))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert run_app([command, name, QUESTION]) == 2
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # KiB
    seen = capsys.readouterr()
    assert seen.out == "" and "Traceback" not in seen.err and len(seen.err.strip().splitlines()) == 2
    assert ("too large" in seen.err or "is not opened" in seen.err) == (kind in TOO_LARGE)


@pytest.mark.slow
def test_each_is_a_row_of_an_archive_and_the_others_are_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    names = [make(kind, tmp_path) for kind in KINDS]
    Image.new("RGB", (112, 112)).save("good.png")
    assert run_app(["map", *names, "good.png", "-q", QUESTION, "--out", "rows.jsonl", "--max-new-tokens", "2"]) == 0
    capsys.readouterr()
    rows = [json.loads(line) for line in Path("rows.jsonl").read_text(encoding="utf-8").splitlines()]
    errors = {Path(row["path"]).name: row["error_type"] for row in rows}
    assert errors.pop("good.png") is None and set(errors) == set(names) and all(errors.values())
    large = {kind for kind, name in zip(KINDS, names, strict=True) if errors[name] == "VideoTooLargeError"}
    assert large == TOO_LARGE and "WorkerError" not in errors.values()
    assert {row["question"] for row in rows} == {QUESTION}
