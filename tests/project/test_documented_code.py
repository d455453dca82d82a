"""Every fenced block of the documentation: pages are followed from top to bottom, on small stand-ins.

Published names lead to the embedded model, file names to copies of the example clip. What cannot be run here is
parsed by the command's own parser or by bash, and stands in `NOT_RUN` with its reason.
"""

from __future__ import annotations

import doctest
import importlib.util
import json
import re
import shutil
import subprocess
import tomllib
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from PIL import Image

import framefusion as ff
from framefusion.cli import compare, console
from framefusion.cli.app import app, run_app
from framefusion.cli.demo_clip.clip import EXAMPLE
from framefusion.evaluation import comparison
from framefusion.inference.answer.prompt import build_prompt
from framefusion.inference.video import load_clip
from tests.project.tree import ROOT
from tests.support import original_trained
from tests.support.documents import Block, Command, blocks, commands, shown
from tests.support.hub import stand_in
from tests.support.kernels import use_plain_quanto

OWN = "framefusion"
NAMES = ("Qwen/Qwen2.5-VL-3B-Instruct", "Qwen/Qwen2.5-VL-7B-Instruct", "OpenGVLab/PVC-InternVL2-8B")
PUBLISHED = {"llava_mini": "ICTNLP/llava-mini-llama-3.1-8b", "vqtoken": "haichaozhang/VQ-Token-llava-ov-0.5b"}
CLIPS = ("clip.mp4", "a.mp4", "b.mp4", "c.mp4", "recording.mkv", "videos/one.mp4", "videos/two.mp4")
PICTURES = ("photo.jpg", "before.png", "after.png", "frames/0.png", "frames/1.png")
COMMANDS: Any = typer.main.get_command(app)

# What is checked without being run: a pattern of the command line, or of the first line of the block, and why.
NOT_RUN = {
    r"^framefusion (bench|study|train|evaluate(?!.* --samples 12 ))": "takes minutes to hours",
    r"^framefusion (serve|app|stream)|://|^import base64$": "a server, or asks one: tests/serving and their own",
    r"^framefusion lmms-eval": "lmms-eval has an environment of its own: tests/integrations",
    r"^framefusion map .*--engine ray": "Ray has an environment of its own: tests/inference/batch",
    r"largest_norm:LargestNorm --keep": "needs its file: tests/methods/test_write_a_method.py",
    r"^# torchrun .* answer.py$": "takes two processes: tests/behaviour/test_ranks.py",
    r"^from functools import partial$": "the same as the command of its page, in Python: tests/inference/batch",
    r"--attention sage$": "needs a GPU",
    r'^"""': "a script of examples/: tests/examples",
}
# Without a language, because they are drawings.
DRAWINGS = {"docs/architecture.md"}

BLOCKS = list(blocks())
BY_PAGE: dict[str, list[Block]] = defaultdict(list)
for _block in BLOCKS:
    BY_PAGE[_block.page].append(_block)
LINES = [line for block in BLOCKS if block.language == "console" for line in commands(block)]
FOLLOWED = [page for page, found in BY_PAGE.items() if any(b.language in {"python", "console"} for b in found)]


def head(item: Block | Command) -> str:
    """What `NOT_RUN` looks at: the command line in one piece, or the first line of the block."""
    return " ".join(item.words) if isinstance(item, Command) else item.text.splitlines()[0]


def is_run(item: Block | Command) -> bool:
    return not any(re.search(pattern, head(item)) for pattern in NOT_RUN)


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_its_language_is_one_that_is_checked(block: Block) -> None:
    if block.language == "python":
        compile(block.text, str(block), "exec")
    elif block.language == "toml":
        tomllib.loads(block.text)
    elif block.language == "json":
        json.loads(block.text)
    elif block.language == "text":
        assert block.text.strip()
    elif block.language == "console":
        assert commands(block) or block.text.startswith(">>> ")
    else:
        assert not block.language and block.page in DRAWINGS


# Command lines.


@pytest.mark.parametrize("line", [line for line in LINES if OWN in line.words], ids=str)
def test_the_command_takes_the_line(line: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "needle").mkdir()  # docs/lmms-eval.md makes it
    for own, name, *arguments in (part for part in line.parts if part[0] == OWN):
        assert own == OWN
        COMMANDS.commands[name].make_context(name, arguments)


@pytest.mark.parametrize("line", [line for line in LINES if line.words[0] != OWN], ids=str)
def test_a_line_for_the_shell_holds(line: Command) -> None:
    """bash can read it, and what it takes from this repository is there."""
    assert subprocess.run(["bash", "-n"], input=line.text, text=True).returncode == 0
    for part in line.parts:
        if part[0] == "make":
            targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
            assert {word for word in part[1:] if "=" not in word} <= set(targets)
        elif "pip" in part[0] or part[1:3] == ["-m", "pip"]:
            _check_pip(part)
        elif part[0].endswith("python") and part[1:2] != ["-c"]:
            _check_script(part)


def _check_pip(words: list[str]) -> None:
    """Extras are those of pyproject.toml, and nothing is promised of an index that does not have this package."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for word in words:
        named = re.fullmatch(r"(\.|framefusion|.*\.whl)(?:\[([\w,]+)\])?", word)
        if named and named[2]:
            assert set(named[2].split(",")) <= set(project["optional-dependencies"])
        assert not (named and named[1] == "framefusion" and named[2] is None), "nothing is published under this name"


def _check_script(words: list[str]) -> None:
    """The module or file is there, and its text has every option of the line."""
    words = words[: words.index("--")] if "--" in words else words
    if words[1] == "-m":
        found = importlib.util.find_spec(words[2])
        assert found, words[2]
        path = Path(str(found.origin))
        path = path.with_name("__main__.py") if path.name == "__init__.py" else path
    else:
        path = ROOT / words[1]
    text = path.read_text(encoding="utf-8")
    assert not [word for word in words[2:] if word.startswith("--") and f'"{word}"' not in text]


# Pages from top to bottom.


@pytest.fixture(scope="module")
def checkpoint() -> ff.Checkpoint:
    return ff.load_checkpoint("framefusion/tiny", device="cpu")


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Small checkpoints with the names and shapes of published ones."""
    return {name: original_trained.save(kind, tmp_path_factory.mktemp(kind)) for kind, name in PUBLISHED.items()}


@pytest.fixture
def reader(
    checkpoint: ff.Checkpoint, published: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, Any]:
    """A folder with clips, a hub with checkpoints, and the names that pages use without saying where they are from."""
    import huggingface_hub.constants

    for name in CLIPS:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copyfile(EXAMPLE, tmp_path / name)
    for name, frame in zip(PICTURES, load_clip(EXAMPLE, frames=len(PICTURES)).frames, strict=True):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(frame).save(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    hub = str(stand_in(tmp_path / ".hub", NAMES))
    for name, files in published.items():
        stand_in(tmp_path / ".hub", (name,), files)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", hub)
    monkeypatch.setenv("HF_HUB_CACHE", hub)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / ".cache"))
    monkeypatch.setattr(console.out, "_width", 120)
    if importlib.util.find_spec("optimum") is not None:
        use_plain_quanto(monkeypatch)
    # Nothing here looks at times, or at how well costs are matched.
    monkeypatch.setattr(compare, "ROUNDS", 2)
    monkeypatch.setattr(comparison, "PROBES", 1)
    monkeypatch.setattr(checkpoint.model.config, "framefusion", checkpoint.model.config.framefusion)

    def processor_outputs_of(video: str) -> Any:
        return build_prompt(checkpoint, load_clip(video, frames=8), "which colour flashed?")

    return {
        "__name__": "__main__",
        "ff": ff,
        "model": checkpoint.model,
        "processor": checkpoint.processor,
        "inputs": build_prompt(checkpoint, load_clip("clip.mp4", frames=32), "which colour flashed?"),
        "videos": ["clip.mp4", "a.mp4"],
        "processor_outputs_of": processor_outputs_of,
    }


@pytest.mark.slow
@pytest.mark.parametrize("page", FOLLOWED)
def test_the_page_can_be_followed(page: str, reader: dict[str, Any], capfd: pytest.CaptureFixture[str]) -> None:
    for block in BY_PAGE[page]:
        if block.language == "python" and is_run(block):
            exec(compile(block.text, str(block), "exec"), reader)
        elif block.language == "console" and block.text.startswith(">>> "):
            _check_session(block, reader)
        elif block.language == "console":
            for line in commands(block):
                if line.parts == [line.words] and line.words[0] == OWN and is_run(line):
                    _run(line, capfd)


def _run(line: Command, capfd: pytest.CaptureFixture[str]) -> None:
    capfd.readouterr()
    code = run_app(line.words[1:])
    printed = capfd.readouterr()
    assert code == 0, printed.err
    assert not shown(line.output, printed.out + printed.err)


def _check_session(block: Block, names: dict[str, Any]) -> None:
    test = doctest.DocTestParser().get_doctest(block.text, names, str(block), block.page, block.line)
    said: list[str] = []
    write: Callable[[str], Any] = said.append
    doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test, out=write, clear_globs=False)
    assert not said, "".join(said)


def test_what_is_not_run_is_there() -> None:
    heads = [head(item) for item in [*LINES, *(block for block in BLOCKS if block.language == "python")]]
    assert [pattern for pattern in NOT_RUN if not any(re.search(pattern, line) for line in heads)] == []
    assert {block.page for block in BLOCKS if not block.language} == DRAWINGS
