"""The tree holds nothing that belongs to one machine or to later, and code one can read in a sitting."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.project.tree import ROOT, relative, sources, texts

LONGEST_FILE = 400
LONGEST_FUNCTION = 60
PRINTS = ("framefusion/cli/", "framefusion/testing/")

# In pieces, so that this file does not find itself.
HOMES = ("work", "root", "home", "Users", "opt/wheels", "tmp/bash")
MACHINE_PATHS = re.compile(rf"(?<![\w.~-])/(?:{'|'.join(HOMES)})/")
LATER = re.compile(r"\b(?:" + "|".join(["TO" + "DO", "FIX" + "ME", "XX" + "X"]) + r")\b")

# Pictures in a page are letters drawn by chance.
PICTURE = re.compile(r"data:image/png;base64,[\w+/=]+")

Function = ast.FunctionDef | ast.AsyncFunctionDef


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def lines(pattern: re.Pattern[str]) -> Iterator[str]:
    """`file:line: text` of every line in the project that matches."""
    for path, text in texts():
        for number, line in enumerate(text.splitlines(), start=1):
            if pattern.search(PICTURE.sub("", line)):
                yield f"{relative(path)}:{number}: {line.strip()[:120]}"


def printing(module: ast.Module) -> list[int]:
    calls = (node for node in ast.walk(module) if isinstance(node, ast.Call))
    return [call.lineno for call in calls if isinstance(call.func, ast.Name) and call.func.id == "print"]


def length(function: Function) -> int:
    return (function.end_lineno or function.lineno) - function.lineno + 1


def test_no_path_of_a_machine():
    assert not list(lines(MACHINE_PATHS))


def test_nothing_is_left_for_later():
    assert not list(lines(LATER))


def test_patterns_find_what_they_name():
    assert MACHINE_PATHS.search("see /" + "root/x") and MACHINE_PATHS.search('"/' + 'home/somebody/x"')
    assert not MACHINE_PATHS.search("framework/x") and not MACHINE_PATHS.search("../work/x")
    assert LATER.search("# TO" + "DO later")


@pytest.mark.parametrize("path", sources(), ids=relative)
def test_file_is_short(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= LONGEST_FILE


@pytest.mark.parametrize("path", sources(), ids=relative)
def test_functions_are_short(path):
    functions = (node for node in ast.walk(tree(path)) if isinstance(node, Function))
    assert not {f.name: length(f) for f in functions if length(f) > LONGEST_FUNCTION}


@pytest.mark.parametrize("path", [p for p in sources() if not relative(p).startswith(PRINTS)], ids=relative)
def test_library_does_not_print(path):
    assert not printing(tree(path))


def test_sources_are_found():
    assert ROOT / "framefusion" / "core" / "plan.py" in sources()
