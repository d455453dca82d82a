"""One licence, stated once: the text in LICENSE, its name in pyproject.toml."""

from __future__ import annotations

import tomllib

from tests.project.tree import ROOT, relative, texts

NAMES = ("licence", "license", "copying", "notice", "copyright")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_the_text_is_the_one_named():
    assert PROJECT["license"] == "Apache-2.0"
    assert PROJECT["license-files"] == ["LICENSE"]
    text = " ".join((ROOT / "LICENSE").read_text().split())
    assert text.startswith("Apache License Version 2.0, January 2004")
    assert "END OF TERMS AND CONDITIONS" in text


def test_there_is_no_second_text():
    found = [path for path in ROOT.iterdir() if path.stem.lower() in NAMES]
    assert [path.name for path in found] == ["LICENSE"]


def test_no_classifier_states_it_again():
    assert not [name for name in PROJECT.get("classifiers", ()) if name.startswith("License ::")]


def test_no_file_states_its_own():
    markers = ("SPDX-" + "License-Identifier", "Licensed " + "under the")
    stating = [
        relative(path) for path, text in texts() if path.name != "LICENSE" and any(marker in text for marker in markers)
    ]
    assert not stating
