"""Every method has a page, and the page of all methods says what running them says."""

from __future__ import annotations

import ast
import re
from dataclasses import fields
from pathlib import Path

import pytest

from framefusion.core.registry import methods
from scripts import options_page
from scripts.methods_page import FAMILIES, PAGE, _page_of, cell, page

PAGES = Path(__file__).parents[2] / "docs" / "methods"


@pytest.mark.parametrize("name", list(methods))
def test_every_method_has_a_page_that_names_its_options(name: str) -> None:
    text = (PAGES / f"{_page_of(name)}.md").read_text()
    cls = methods.load(name)
    assert [option.name for option in fields(cls) if f"`{option.name}`" not in text] == []
    if cls.facts.paper:
        assert cls.facts.paper in text
    assert f"framefusion/methods/{cls.__module__.rpartition('.')[2]}.py" in text


@pytest.mark.parametrize("name", list(methods))
def test_a_page_says_the_default_of_every_option(name: str) -> None:
    text = (PAGES / f"{_page_of(name)}.md").read_text()
    defaults = {option.name: str(option.default) for option in fields(methods.load(name))}
    rows = re.findall(r"^\| `(\w+)` \| ([^|]*) \|", text, re.MULTILINE)
    assert {option: default.strip() for option, default in rows if option in defaults} == defaults


@pytest.mark.parametrize("name", list(methods))
def test_a_method_file_is_short(name: str) -> None:
    path = Path(__import__(methods.load(name).__module__, fromlist=["x"]).__file__)
    text = path.read_text()
    told = sum(len(ast.get_docstring(cls, clean=False).splitlines()) for cls in ast.parse(text).body if _told(cls))
    assert len(text.splitlines()) - told <= 150  # what a class says of its options is no code


def _told(node: ast.stmt) -> bool:
    return isinstance(node, ast.ClassDef) and ast.get_docstring(node) is not None


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", list(methods))
def test_every_method_generates_or_says_what_the_family_lacks(name: str, family: str) -> None:
    assert cell(name, family)


def test_the_page_of_all_methods_is_up_to_date() -> None:
    assert PAGE.read_text() == page(), "run `python -m scripts.methods_page`"


def test_the_page_of_all_options_is_up_to_date() -> None:
    assert options_page.PAGE.read_text() == options_page.page(), "run `python -m scripts.options_page`"
