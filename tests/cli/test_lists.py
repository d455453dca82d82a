"""`framefusion models` and `framefusion methods` come from the registries."""

from __future__ import annotations

import json

import pytest

from framefusion.cli.app import run_app
from framefusion.core.registry import families, learned, methods
from framefusion.models.table import read_table


@pytest.mark.parametrize(
    ("command", "names"), [("models", sorted({*read_table(), *families})), ("methods", [*methods, *learned])]
)
def test_every_known_name_is_listed(command: str, names: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run_app([command, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in rows] == names
    assert run_app([command]) == 0
    shown = capsys.readouterr().out
    assert all(row["name"] in shown for row in rows)


def test_published_thresholds_are_those_of_the_paper_s_examples() -> None:
    assert families.load("qwen2_vl").similarity_lower_bound == 0.5
    assert families.load("internvl").similarity_lower_bound == 0.5


def test_a_method_lists_its_options(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_app(["methods", "--json"]) == 0
    framefusion = next(row for row in json.loads(capsys.readouterr().out) if row["name"] == "framefusion")
    assert framefusion["options"]["cost"] == 0.3
    assert framefusion["query_aware"] is True and framefusion["count"] == "data"


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_app(["--version"]) == 0
    assert capsys.readouterr().out.strip()


def test_help_without_arguments(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_app([]) == 2
    seen = capsys.readouterr()
    assert "run" in seen.out + seen.err and "error" not in seen.err
