"""Every option that writes says before any work that it cannot, and touches nothing that is not ours."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest

from framefusion.cli.app import run_app
from framefusion.inference.video import write_clip
from tests.support.tiny import moving_clip

MODEL = ["--model", "nowhere/at-all"]
LMMS = ["--model", "qwen2_5_vl", "--model-args", "pretrained=nowhere", "--tasks", "videomme"]
CLIP = "CLIP"
FOREIGN = b'{"not": "ours"}\n'
# The option, with a name that it takes.
FILES = {
    "view page": (["view", CLIP, *MODEL, "--out"], "page.html"),
    "view picture": (["view", CLIP, *MODEL, "--out"], "map.png"),
    "view animation": (["view", CLIP, *MODEL, "--out"], "map.gif"),
    "evaluate answers": (["evaluate", *MODEL, "--out"], "answers.jsonl"),
    "evaluate plot": (["evaluate", *MODEL, "--plot"], "cost.png"),
    "analyze plot": (["analyze", CLIP, *MODEL, "--plot"], "similarity.svg"),
    "study answers": (["study", *MODEL, "--out"], "answers.jsonl"),
    "study rows": (["study", *MODEL, "--rows"], "rows.jsonl"),
    "study page": (["study", *MODEL, "--page"], "study.md"),
    "map lines": (["map", CLIP, "-q", "what?", *MODEL, "--out"], "answers.jsonl"),
    "map table": (["map", CLIP, "-q", "what?", *MODEL, "--out"], "answers.parquet"),
    "bench rows": (["bench", "--rows"], "rows.jsonl"),
}
# The option takes a folder; the file stands for what is written into it.
FOLDERS = {
    "study plots": (["study", *MODEL, "--methods", "random", "--plots"], "study-random.png"),
    "bench show": (["bench", "--rows", "ROWS", "--show"], "page.html"),
    "study tasks": (["study", *LMMS, "--out"], None),
    "lmms-eval": (["lmms-eval", *LMMS, "--out"], None),
}
INSIDE = [name for name in FOLDERS if FOLDERS[name][1]]
needs = {"plot": "matplotlib", "table": "pyarrow", "show": "matplotlib"}


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    write_clip(path, moving_clip(4), fps=4.0)
    return path


@pytest.fixture(autouse=True)
def nothing_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """The place is refused before anything is loaded or measured."""

    def slow(*arguments: object, **options: object) -> None:
        raise AssertionError("work began")

    for name in ("framefusion.inference.answer.checkpoint.load_checkpoint", "benchmarks.run.measure", "subprocess.run"):
        monkeypatch.setattr(name, slow)
    for package in ("matplotlib", "pyarrow"):
        assert find_spec(package), "the matrix needs the extras of the tests"


def refuse(words: list[str], clip: Path, place: Path, capsys: pytest.CaptureFixture[str]) -> str:
    before = kept(place.parent)
    named = {CLIP: str(clip), "ROWS": str(clip.with_name("rows.jsonl"))}
    assert run_app([*(named.get(word, word) for word in words), str(place)]) == 2
    seen = capsys.readouterr()
    lines = seen.err.splitlines()
    assert seen.out == "" and "Traceback" not in seen.err
    assert [line.partition(":")[0] for line in lines] == ["error", "hint"], seen.err
    assert kept(place.parent) == before
    return seen.err


def kept(folder: Path) -> dict[str, object]:
    """What is in a folder that may be missing, with the bytes of regular files."""
    if not folder.is_dir():
        return {}
    return {
        path.name: path.read_bytes() if path.is_file() else os.lstat(path).st_mode for path in sorted(folder.iterdir())
    }


def a_folder(place: Path) -> None:
    place.mkdir()


def a_pipe(place: Path) -> None:
    os.mkfifo(place)


def a_link(place: Path) -> None:
    other = place.with_name("other")
    other.write_bytes(FOREIGN)
    place.symlink_to(other)


def a_link_to_nothing(place: Path) -> None:
    place.symlink_to(place.with_name("other"))


def a_link_to_itself(place: Path) -> None:
    place.symlink_to(place)


def a_foreign_file(place: Path) -> None:
    place.write_bytes(FOREIGN)


def a_foreign_file_without_an_end(place: Path) -> None:
    place.write_bytes(b"\xff\xfe" + FOREIGN.strip())


def a_read_only_file(place: Path) -> None:
    place.write_bytes(b"")
    place.chmod(0o444)


STANDING = [
    a_folder,
    a_pipe,
    a_link,
    a_link_to_nothing,
    a_link_to_itself,
    a_foreign_file,
    a_foreign_file_without_an_end,
    a_read_only_file,
]


@pytest.mark.parametrize("stands", STANDING)
@pytest.mark.parametrize("option", FILES)
def test_what_stands_there_is_left_alone(
    option: str, stands: Callable[[Path], None], clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words, name = FILES[option]
    stands(tmp_path / name)
    assert name in refuse(words, clip, tmp_path / name, capsys)


@pytest.mark.parametrize("stands", [each for each in STANDING if each is not a_read_only_file])
@pytest.mark.parametrize("option", INSIDE)
def test_what_stands_in_a_folder_is_left_alone(
    option: str, stands: Callable[[Path], None], clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words, name = FOLDERS[option]
    folder = tmp_path / "shown"
    folder.mkdir()
    stands(folder / name)
    before = kept(folder)
    assert name in refuse(words, clip, folder, capsys) and kept(folder) == before


@pytest.mark.parametrize("stands", [a_pipe, a_link_to_nothing, a_link_to_itself, a_foreign_file])
@pytest.mark.parametrize("option", FOLDERS)
def test_a_folder_that_is_none(
    option: str, stands: Callable[[Path], None], clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stands(tmp_path / "shown")
    refuse(FOLDERS[option][0], clip, tmp_path / "shown", capsys)


LONG, NOT_UTF8, ZERO = "n" * 300, os.fsdecode(b"\xff\xfe"), "zero\0"
BOTH = {name: (words, f".{file.rpartition('.')[2]}") for name, (words, file) in FILES.items()}
BOTH |= {name: (words, "") for name, (words, _) in FOLDERS.items()}


@pytest.mark.parametrize("name", [LONG, NOT_UTF8, ZERO], ids=["long", "no UTF-8", "a zero byte"])
@pytest.mark.parametrize("option", BOTH)
def test_odd_names(option: str, name: str, clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words, ending = BOTH[option]
    refuse(words, clip, tmp_path / f"{name}{ending}", capsys)


@pytest.mark.parametrize("option", BOTH)
def test_a_folder_that_is_a_file(option: str, clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words, ending = BOTH[option]
    (tmp_path / "file").write_bytes(FOREIGN)
    refuse(words, clip, tmp_path / "file" / f"name{ending}", capsys)
    assert (tmp_path / "file").read_bytes() == FOREIGN


@pytest.mark.parametrize("option", BOTH)
def test_a_full_disk(
    option: str, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(file: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    words, ending = BOTH[option]
    assert "No space left" in refuse(words, clip, _page(tmp_path / f"name{ending}"), capsys)


@pytest.mark.parametrize("option", BOTH)
def test_a_read_only_file_system(
    option: str, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    opened = os.open

    def read_only(path: object, flags: int, *more: int, **options: object) -> int:
        if flags & (os.O_CREAT | os.O_WRONLY | os.O_RDWR) and str(path).startswith(str(tmp_path)):
            raise OSError(errno.EROFS, "Read-only file system")
        return opened(path, flags, *more, **options)

    words, ending = BOTH[option]
    place = _page(tmp_path / f"name{ending}")
    monkeypatch.setattr(os, "open", read_only)
    assert "Read-only" in refuse(words, clip, place, capsys)


def _page(place: Path) -> Path:
    """`place`, with marks where a page is asked for, and a folder where none is made."""
    if not place.suffix:
        place.mkdir()
    if place.suffix == ".md":
        from framefusion.evaluation.study.page import BEGIN, END

        place.write_text(f"{BEGIN}\n{END}\n")
    return place


@pytest.mark.parametrize("beside", ["answers.jsonl.journal", ".answers.jsonl.lock"])
@pytest.mark.parametrize("stands", [a_folder, a_pipe, a_link, a_link_to_nothing, a_foreign_file])
def test_what_stands_beside_a_table_is_left_alone(
    beside: str, stands: Callable[[Path], None], clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stands(tmp_path / beside)
    before = kept(tmp_path)
    assert run_app(["map", str(clip), "-q", "what?", "--out", str(tmp_path / "answers.jsonl")]) == 2
    assert beside in capsys.readouterr().err
    assert before.items() <= kept(tmp_path).items()


@pytest.mark.parametrize(
    "words", [["view", CLIP, "--out", CLIP], ["analyze", CLIP, "--plot", CLIP], ["analyze", "a", CLIP, "--plot", CLIP]]
)
def test_the_video_is_no_place_for_the_result(
    words: list[str], clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = tmp_path / "clip.png"
    picture.write_bytes(clip.read_bytes() + b"written by framefusion")
    assert run_app([str(picture) if word == CLIP else word for word in words]) == 2
    assert "read by the same command" in capsys.readouterr().err
    assert picture.read_bytes().startswith(clip.read_bytes())


def test_answers_and_rows_are_two_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    both = str(tmp_path / "a.jsonl")
    assert run_app(["study", *MODEL, "--out", both, "--rows", both]) == 2
    assert "--out and --rows" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        ["evaluate", *MODEL, "--out", "a.png", "--plot", "b/../a.png"],
        ["evaluate", *MODEL, "--out", "a.png", "--plot", "same/a.png"],
        ["study", *MODEL, "--out", "a", "--rows", "b/../a"],
        ["study", *MODEL, "--methods", "random", "--plots", ".", "--rows", "study-random.png"],
        ["study", *MODEL, "--methods", "random", "--plots", "same", "--out", "study-frontier.png"],
        ["bench", "--rows", "b/../tables.md", "--show", "."],
    ],
)
def test_no_result_replaces_another(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "same").symlink_to(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert run_app(words) == 2
    assert " are both " in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b", "same"]


def test_a_default_folder_that_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "cache").write_bytes(FOREIGN)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for command in ("evaluate", "study"):
        assert run_app([command, *MODEL]) == 2
        assert "cache" in capsys.readouterr().err
