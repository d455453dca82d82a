"""What the page holds, read without a browser."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest

from framefusion.evaluation.view.page import document, page
from tests.support.seeing import scene


def data_of(text: str) -> dict:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    assert found is not None
    return json.loads(found[1])


@pytest.mark.parametrize(("family", "method"), [("qwen2_5_vl", "framefusion"), ("llava", "tome"), ("internvl", "dart")])
def test_the_page_holds_every_fate(family, method):
    seen = scene(family, method, dense=True)
    data = data_of(page(seen))
    assert data["gone"] == seen.history.gone.tolist() and data["into"] == seen.history.into.tolist()
    assert data["layers"] == [layer.visual_in for layer in seen.prompt.layers]
    assert [step["label"] for step in data["steps"]] == [str(step.point) for step in seen.history.steps]
    assert [picture["cells"] for picture in data["pictures"]] == [p.cells.flatten().tolist() for p in seen.pictures]
    assert data["dense"]["text"] == seen.dense.text and data["reduced"]["text"] == seen.reduced.text
    figures = {figure["name"]: figure for figure in data["figures"]}
    assert figures["equivalent cost"]["reduced"] == f"{seen.reduced.cost:.1%}"
    assert figures["KV cache"]["dense"] != figures["KV cache"]["reduced"]


def test_the_page_needs_nothing_else():
    text = page(scene("qwen2_5_vl", dense=True))
    assert "default-src 'none'" in text
    addresses = re.findall(r'(?:src|href)\s*=\s*["\']([^"\']*)|url\(([^)]*)\)|@import', text)
    assert not addresses
    outside = set(re.findall(r"https?://[\w./-]+", text))
    # The name of SVG's namespace, which no browser fetches.
    assert outside == {"http://www.w3.org/2000/svg"}
    assert all(picture["image"].startswith("data:image/webp;base64,") for picture in data_of(text)["pictures"])
    assert "{{" not in text.replace(text[text.index("<script") :], "")


def test_words_from_outside_stay_words():
    """Neither file names nor answers can end the script, add elements or take the place of a part of the page."""
    evil = "</script><script>alert(1)</script><!-- {{style}} & \u2028"
    seen = scene("qwen2_5_vl")
    seen = replace(seen, source=evil, question=evil, reduced=replace(seen.reduced, text=evil))
    text = page(seen)
    assert "alert(1)</script>" not in text and text.count("<script") == page(scene("qwen2_5_vl")).count("<script")
    data = data_of(text)
    assert data["source"] == data["question"] == data["reduced"]["text"] == evil


def test_without_a_dense_run_the_page_shows_the_reduced_one_alone():
    data = document(scene("qwen2_5_vl"))
    assert data["dense"] is None
    assert {figure["name"]: figure["dense"] for figure in data["figures"]}["KV cache"] == ""


def test_many_frames_are_smaller():
    seen = scene("qwen2_5_vl")
    few = len(page(seen))
    assert len(page(replace(seen, pictures=seen.pictures * 2))) < 2.1 * few
