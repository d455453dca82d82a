"""Modules that moved are found under the names they had."""

from __future__ import annotations

import importlib
import sys

import pytest

import framefusion
from framefusion.core.former_modules import FORMER


@pytest.mark.parametrize("former", FORMER)
def test_a_former_name_warns_and_leads_to_the_module_of_today(former, monkeypatch):
    monkeypatch.delitem(sys.modules, former, raising=False)
    now = importlib.import_module(FORMER[former])
    spec = now.__spec__
    with pytest.warns(DeprecationWarning, match=FORMER[former]):
        assert importlib.import_module(former) is now
    assert now.__spec__ is spec


def test_modules_inside_moved_rooms_are_found_too(monkeypatch):
    for name in ("framefusion.options", "framefusion.ops", "framefusion.ops.selection"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    with pytest.warns(DeprecationWarning, match=r"core\.ops\.selection"):
        from framefusion.ops.selection import highest
    from framefusion.core.ops import selection

    assert highest is selection.highest


def test_a_former_name_is_an_attribute_of_the_package(monkeypatch):
    # To look for the attribute imports the module, so that is forgotten last.
    monkeypatch.delattr(framefusion, "errors", raising=False)
    monkeypatch.delitem(sys.modules, "framefusion.errors", raising=False)
    with pytest.warns(DeprecationWarning, match=r"core\.errors"):
        assert framefusion.errors.FrameFusionError is framefusion.FrameFusionError


def test_a_module_that_never_was_is_missing_as_ever():
    with pytest.raises(ModuleNotFoundError, match=r"framefusion\.nothing"):
        importlib.import_module("framefusion.nothing")
