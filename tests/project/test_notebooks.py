"""Every notebook runs from top to bottom with the embedded model, but for cells that need weights or are for Colab."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.project.tree import ROOT

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
LEFT_OUT = {"weights", "colab"}


def cells(path: Path) -> list[dict[str, Any]]:
    return [cell for cell in json.loads(path.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]


def tags(cell: dict[str, Any]) -> set[str]:
    return set(cell["metadata"].get("tags", ()))


def test_there_is_one_for_each_beginning() -> None:
    assert {path.stem for path in NOTEBOOKS} == {"first_steps", "write_a_method", "compare_methods", "long_video"}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_is_clean_and_marks_what_is_not_run(path: Path) -> None:
    whole = json.loads(path.read_text(encoding="utf-8"))
    assert (whole["nbformat"], whole["nbformat_minor"]) == (4, 5)
    assert len({cell["id"] for cell in whole["cells"]}) == len(whole["cells"])
    for cell in cells(path):
        text = "".join(cell["source"])
        assert not cell["outputs"] and cell["execution_count"] is None
        assert tags(cell) <= LEFT_OUT
        assert ("weights" in tags(cell)) == ("Qwen/" in text)
        assert ("colab" in tags(cell)) == text.startswith("%")


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / ".cache"))
    names: dict[str, Any] = {"__name__": "__main__"}
    for number, cell in enumerate(cells(path)):
        if not tags(cell) & LEFT_OUT:
            exec(compile("".join(cell["source"]), f"{path.name}:{number}", "exec"), names)
