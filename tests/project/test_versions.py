"""What the Makefile tests is what pyproject.toml promises, and the version has one home."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import version

import framefusion
from framefusion.engine.model.releases import TESTED
from tests.project.tree import ROOT

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
MAKEFILE = (ROOT / "Makefile").read_text()


def lower_bound(package: str) -> str:
    found = [re.fullmatch(rf"{package}>=([\d.]+)", entry) for entry in PYPROJECT["project"]["dependencies"]]
    return next(match.group(1) for match in found if match)


def release(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split("+")[0].split("."))


def test_lowest_transformers_is_the_promised_one():
    lowest = re.search(r"^LOWEST := ([\d.]+)$", MAKEFILE, re.MULTILINE)
    assert lowest and release(lowest.group(1))[:2] == release(lower_bound("transformers"))


def test_torch_is_within_its_bound():
    assert release(version("torch")) >= release(lower_bound("torch"))


def test_installed_version_is_the_package_s():
    assert version("framefusion") == framefusion.__version__
    assert PYPROJECT["project"]["dynamic"] == ["version"]


def test_both_ends_of_the_tested_range_are_what_the_makefile_runs():
    ends = [re.search(rf"^{end} := ([\d.]+)$", MAKEFILE, re.MULTILINE) for end in ("LOWEST", "HIGHEST")]
    assert [release(end.group(1))[:2] for end in ends if end] == [release(end) for end in TESTED]
