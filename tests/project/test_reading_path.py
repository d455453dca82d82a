"""docs/architecture.md names the files that one forward pass goes through; they stay few and short."""

from __future__ import annotations

import ast
import re

import pytest

from tests.project.tree import ROOT, relative, sources

PATH = re.compile(r"<!-- path -->\n(.*?)<!-- end -->", re.DOTALL)
ENGINE = [path for path in sources() if path.is_relative_to(ROOT / "framefusion" / "engine")]


def lines_of(name: str) -> int:
    return len((ROOT / "framefusion" / name).read_text(encoding="utf-8").splitlines())


def test_one_forward_pass_can_be_read() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    (listed,) = PATH.findall(page)
    names = re.findall(r"^\d+\. `(engine/[\w/]+\.py)`", listed, re.MULTILINE)
    assert 4 < len(names) <= 8
    assert sum(map(lines_of, names)) <= 1200


def test_what_the_page_names_is_there() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    names = set(re.findall(r"`(engine/[\w/]+\.py)`", page))
    assert names and [name for name in names if not (ROOT / "framefusion" / name).exists()] == []


@pytest.mark.parametrize("path", ENGINE, ids=relative)
def test_files_and_functions_of_the_engine_are_short(path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 300
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            assert node.end_lineno is not None
            assert node.end_lineno - node.lineno < 50, node.name
