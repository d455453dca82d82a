"""`framefusion map` on an archive with broken files, killed in the middle and run again."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import fields
from pathlib import Path

import pytest

from framefusion.cli.app import run_app
from framefusion.inference.batch import Row
from framefusion.inference.batch.table import read_table
from framefusion.inference.video import write_clip
from tests.project.tree import ROOT
from tests.support.tiny import moving_clip, save_checkpoint

CLIPS, CORRUPT, DIFFERENT = 40, 3, 8
BEFORE_THE_KILL = 8
PATIENCE_S = 90
SUFFIX = "parquet" if importlib.util.find_spec("pyarrow") else "jsonl"
needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed, the extra `ray`")


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a checkpoint and videos, three of them broken in three ways."""
    folder = tmp_path_factory.mktemp("archive")
    save_checkpoint("qwen2_5_vl", folder / "model")
    videos = folder / "videos"
    videos.mkdir()
    for number in range(CLIPS):
        path = videos / f"{number:03}.mp4"
        if number < DIFFERENT:
            write_clip(path, moving_clip(4, seed=number), 4.0)
        else:
            shutil.copy(videos / f"{number % DIFFERENT:03}.mp4", path)
    data = (videos / "000.mp4").read_bytes()
    (videos / "broken-cut.mp4").write_bytes(data[: len(data) // 3])
    (videos / "broken-empty.mp4").touch()
    (videos / "broken-noise.mp4").write_bytes(bytes(range(256)) * 40)
    return folder


def command(archive: Path, out: Path, *more: str) -> list[str]:
    model, clips = str(archive / "model"), str(archive / "videos" / "*.mp4")
    options = ["--frames", "4", "--max-new-tokens", "2", "--device", "cpu", "--json"]
    return ["map", clips, "--question", "what?", "--out", str(out), "--model", model, *options, *more]


def started(arguments: list[str], log: Path) -> subprocess.Popen:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with log.open("w") as errors:
        return subprocess.Popen(
            [sys.executable, "-m", "framefusion", *arguments], stdout=subprocess.PIPE, stderr=errors, env=environment
        )


def lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def descendants(process: int) -> set[int]:
    """Processes below one, and itself."""
    found = {process}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and _parent(entry) == process:
            found |= descendants(int(entry.name))
    return found


def _parent(entry: Path) -> int | None:
    try:
        return int(entry.joinpath("stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return None


def alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes in /proc")
@pytest.mark.parametrize("engine", ["local", pytest.param("ray", marks=needs_ray)])
def test_killed_in_the_middle_and_run_again(engine: str, archive: Path, tmp_path: Path) -> None:
    out = tmp_path / f"answers.{SUFFIX}"
    journal = out.with_name(out.name + ".journal")
    arguments = command(archive, out, "--engine", engine)
    process = started([*arguments, "--workers", "2"], tmp_path / "first.log")
    while lines(journal) < BEFORE_THE_KILL and process.poll() is None:
        time.sleep(0.05)
    family = descendants(process.pid)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = [Row.from_line(line) for line in journal.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]
    assert BEFORE_THE_KILL <= len(kept) < CLIPS, (tmp_path / "first.log").read_text()
    assert not out.exists() and len(family) >= 3
    # Half a line, as a kill in the middle of a write leaves it.
    with journal.open("ab") as file:
        file.write(b'{"path": "torn')

    again = started([*arguments, "--workers", "1"], tmp_path / "second.log")
    shown, _ = again.communicate()
    assert again.returncode == 0, (tmp_path / "second.log").read_text()
    summary = json.loads(shown)
    assert (
        summary["found"] == len(kept) and summary["found"] + summary["answered"] == summary["rows"] == CLIPS + CORRUPT
    )
    rows = {row.path: row for row in read_table(out)}
    assert len(list(read_table(out))) == len(rows) == CLIPS + CORRUPT and not journal.exists()
    # Times differ from one answer to the next: an equal row was not answered again.
    assert all(rows[row.path] == row for row in kept if row is not None)
    broken = {Path(path).stem: row for path, row in rows.items() if row.error is not None}
    assert set(broken) == {"broken-cut", "broken-empty", "broken-noise"} and summary["failed"] == CORRUPT
    assert all(row.answer is None and row.error_type and row.why and row.hint for row in broken.values())
    answered = [row for row in rows.values() if row.error is None]
    assert all(row.new_tokens == 2 and row.visual_tokens == 32 and row.cost < 0.5 for row in answered)
    # Ray's helpers look after their parent every few seconds.
    deadline = time.monotonic() + PATIENCE_S
    while any(map(alive, family)) and time.monotonic() < deadline:
        time.sleep(0.5)
    assert not [process for process in family if alive(process)], "workers outlived the run that was killed"


WRONG = {
    "unknown engine": (["--engine", "spark"], "spark", "local or ray"),
    "no workers": (["--workers", "0"], "--workers", "at least 1"),
    "no frames": (["--frames", "0"], "frames", "at least 1"),
    "unknown method": (["--method", "framefuson"], "framefuson", "framefusion"),
    "not a table": (["--out", "answers.csv"], "answers.csv", ".jsonl"),
    "no such model": (["--model", "nowhere/at-all"], "nowhere/at-all", "hint"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_use(case: str, archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments, named, hint = WRONG[case]
    assert run_app(command(archive, tmp_path / "answers.jsonl", *arguments)) == 2
    seen = capsys.readouterr()
    assert seen.out == "" and named in seen.err and hint in seen.err and "Traceback" not in seen.err


def test_ray_that_is_not_installed(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.setitem(sys.modules, "ray.data", None)
    assert run_app(command(archive, tmp_path / "answers.jsonl", "--engine", "ray")) == 2
    assert "framefusion[ray]" in capsys.readouterr().err


def test_every_column_is_documented() -> None:
    page = (ROOT / "docs" / "map.md").read_text()
    assert [field.name for field in fields(Row) if f"`{field.name}`" not in page] == []
