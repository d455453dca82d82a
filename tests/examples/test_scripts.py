"""Every script of examples/ runs, on a tiny checkpoint, and the documentation shows it as it is."""

from __future__ import annotations

import re
import runpy
import sys
from pathlib import Path

import pytest

from tests.project.tree import ROOT
from tests.support import original_llava_video
from tests.support.tiny import save_checkpoint

FOLDER = ROOT / "examples"
SCRIPTS = sorted(FOLDER.glob("*.py"))
STOCK = {"first_steps": "qwen2_5_vl", "qwen2_vl": "qwen2_vl", "qwen3_vl": "qwen3_vl", "llava_1_5": "llava"}
OWN_CODE = {"minicpm_v": "minicpmv", "nvila": "vila", "internvl2_5": "internvl_chat"}
LONGEST = 70


@pytest.fixture
def checkpoint(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A tiny checkpoint for the script named by the parameter."""
    name = request.param
    if name in OWN_CODE:
        return request.getfixturevalue("folders")[OWN_CODE[name]]
    if name in STOCK:
        save_checkpoint(STOCK[name], tmp_path)
    else:
        original_llava_video.save(tmp_path)
    return tmp_path


def options(name: str) -> list[str]:
    some = ["--keep", "0.3"] if name == "llava_1_5" else ["--frames", "6"]
    return [*some, *(["--trust-remote-code"] if name in OWN_CODE else [])]


def run(name: str, arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    script = FOLDER / f"{name}.py"
    monkeypatch.setattr(sys, "argv", [str(script), *arguments])
    runpy.run_path(str(script), run_name="__main__")


@pytest.mark.parametrize(("name", "checkpoint"), [(path.stem, path.stem) for path in SCRIPTS], indirect=["checkpoint"])
def test_it_answers_dense_and_reduced(name, checkpoint, monkeypatch, capsys):
    run(name, ["--model", str(checkpoint), *options(name)], monkeypatch)
    shown = capsys.readouterr().out
    dense, reduced = (re.search(rf"^{word}: +(\S.*)$", shown, re.MULTILINE) for word in ("dense", "reduced"))
    assert dense and reduced
    before, after = map(int, re.search(r"^visual tokens +(\d+) -> (\d+)", shown, re.MULTILINE).groups())
    assert 0 < after < before


@pytest.mark.parametrize("name", OWN_CODE)
def test_code_of_a_checkpoint_needs_the_flag(name, folders, monkeypatch):
    from framefusion.core.errors import CheckpointError

    with pytest.raises(CheckpointError, match="trust_remote_code=True"):
        run(name, ["--model", str(folders[OWN_CODE[name]]), "--frames", "2"], monkeypatch)


def test_first_steps_one_script_per_model_of_the_paper_and_two_more():
    paper = {"llava_video", "minicpm_v", "nvila", "qwen2_vl", "internvl2_5"}
    assert {path.stem for path in SCRIPTS} == paper | {"first_steps", "qwen3_vl", "llava_1_5"}
    assert all(len(path.read_text().splitlines()) <= LONGEST for path in SCRIPTS)


def test_the_documentation_shows_them_as_they_are():
    page = (ROOT / "docs" / "examples.md").read_text()
    shown = {name for name in re.findall(r"<!-- examples/(\w+)\.py -->", page)}
    assert shown == {path.stem for path in SCRIPTS}
    outdated = [path.name for path in SCRIPTS if f"-->\n```python\n{path.read_text()}```\n" not in page]
    assert not outdated, "run `python scripts/examples_page.py`"
