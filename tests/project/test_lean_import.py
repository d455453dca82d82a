"""Importing the package or its command costs nothing: the heavy libraries come with the first use."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

HEAVY = {"torch", "torchvision", "transformers", "av", "numpy", "PIL"}


def modules_after(statement: str) -> set[str]:
    """Top-level modules of a fresh interpreter after one statement."""
    code = f"{statement}\nimport json, sys\nprint(json.dumps([name for name in sys.modules if '.' not in name]))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout))


@pytest.mark.parametrize(
    "module", ["framefusion", "framefusion.cli", "framefusion.core.registry", "framefusion.core.errors"]
)
def test_import_is_lean(module):
    assert not HEAVY & modules_after(f"import {module}")


def test_the_check_sees_a_heavy_import():
    assert "numpy" in modules_after("import numpy")


def test_listing_names_is_lean():
    assert not HEAVY & modules_after("import framefusion; dir(framefusion), framefusion.__version__")


def test_first_use_loads():
    assert "torch" in modules_after("import framefusion; framefusion.Plan")
