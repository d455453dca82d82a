"""What a type checker says of a user's script."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import framefusion as ff
from tests.project.tree import ROOT

pytestmark = pytest.mark.slow

# The libraries are read as `Any`, which saves the minutes their own types take.
CONFIGURATION = """\
[mypy]
strict = True
follow_imports = silent
[mypy-torch.*,transformers.*,numpy.*]
follow_imports = skip
ignore_missing_imports = True
"""

RIGHT = """\
from typing import Any, assert_type
import framefusion as ff

def costs(model: Any) -> float:
    with ff.reduce(model, ff.Chain(ff.PruMerge(keep=0.5), ff.FastV(keep=0.5, layer=2))) as reduction:
        assert_type(reduction, ff.Reduction)
    cost = ff.reduce(model, ff.FrameFusion(0.3)).report.cost
    assert_type(cost, float)
    return cost

assert_type(ff.list_methods(), list[dict[str, Any]])
assert_type(ff.load_checkpoint("framefusion/tiny"), ff.Checkpoint)
assert_type(ff.evaluate(ff.load_checkpoint("framefusion/tiny"), ff.FrameFusion()), ff.Evaluation)
assert_type(ff.FastV().layer, int)
"""

# One mistake in each line.
WRONG = {
    "ff.FastV(kep=0.5)": "call-arg",
    "ff.PruMergePlus(neighbors=3)": "call-arg",
    'ff.FrameFusion(cost="low")': "arg-type",
    "ff.reduce(object(), ff.FastV)": "arg-type",
    "ff.Nonsense": "attr-defined",
    "ff.calibrate()": "call-arg",
    "_: int = ff.FastV().with_budget(0.3)": "assignment",
}


def checked(tmp_path: Path, scripts: dict[str, str]) -> list[str]:
    """Errors, a line each."""
    pytest.importorskip("mypy", reason="types are checked with mypy")
    for name, text in scripts.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    (tmp_path / "mypy.ini").write_text(CONFIGURATION, encoding="utf-8")
    command = [sys.executable, "-m", "mypy", "--config-file", "mypy.ini", "--cache-dir", "cache", *scripts]
    paths = os.environ | {"MYPYPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=paths, capture_output=True, text=True)
    assert done.returncode in (0, 1), done.stdout + done.stderr
    return [line for line in done.stdout.splitlines() if ": error: " in line]


def test_mistakes_in_a_script_are_found_and_nothing_else(tmp_path: Path) -> None:
    methods = [
        name for name in ff.__all__ if isinstance(getattr(ff, name), type) and issubclass(getattr(ff, name), ff.Method)
    ]
    lines = [*WRONG, *(f"ff.{name}(kep=0.5)" for name in methods if name != "Method")]
    found = checked(tmp_path, {"right.py": RIGHT, "wrong.py": "\n".join(["import framefusion as ff", *lines])})
    codes = {
        int(line.split(":")[1]) - 2: line.rpartition("[")[2].rstrip("]")
        for line in found
        if line.startswith("wrong.py")
    }
    assert not [line for line in found if line.startswith("right.py")]
    assert codes == {number: WRONG.get(line, "call-arg") for number, line in enumerate(lines)}
