"""The page in a headless browser: sliders, patches, keys, modes, widths and colour schemes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from framefusion.evaluation.view.page import page
from framefusion.evaluation.view.token_history import KEPT, MERGED, NOBODY, PRUNED
from tests.support.browser import browser as browser
from tests.support.seeing import scene

pytestmark = pytest.mark.slow
FAMILY, METHOD = "qwen2_vl", "prunevid"


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("page") / "page.html"
    path.write_text(page(scene(FAMILY, METHOD, dense=True)), encoding="utf-8")
    return path.as_uri()


@pytest.fixture
def tab(browser: Any, address: str) -> Iterator[Any]:
    """The page, wide and light; errors and requests beyond the file fail the test."""
    yield from opened(browser, address, viewport={"width": 1300, "height": 900}, color_scheme="light")


def opened(browser: Any, address: str, **options: Any) -> Iterator[Any]:
    context = browser.new_context(**options)
    tab, errors, requests = context.new_page(), [], []
    tab.on("pageerror", lambda error: errors.append(str(error)))
    tab.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    tab.on("request", lambda request: requests.append(request.url))
    tab.goto(address)
    tab.wait_for_selector("html[data-ready]")
    yield tab
    context.close()
    assert not errors
    assert [url for url in requests if not url.startswith("data:")] == [address]


@pytest.fixture(scope="module")
def history() -> Any:
    return scene(FAMILY, METHOD, dense=True).history


def token_of(history: Any, state: int, after: int) -> int:
    """A token in that state that has a place; of survivors, the one that carries most."""
    found = (history.states(after) == state).nonzero()[0]
    return int(found[np.argmax(history.carried(after)[found])])


def point_at(tab: Any, token: int, sheet: str = "#sheet") -> None:
    for number, picture in enumerate(scene(FAMILY, METHOD, dense=True).pictures):
        for row, column in np.argwhere(picture.cells == token):
            rows, columns = picture.cells.shape
            canvas = tab.locator(f"{sheet} canvas[data-picture='{number}']")
            canvas.scroll_into_view_if_needed()
            box = canvas.bounding_box()
            x, y = (column + 0.5) / columns * box["width"], (row + 0.5) / rows * box["height"]
            canvas.hover(position={"x": x, "y": y})
            return
    raise AssertionError(f"token {token} is in no picture")


def counts(tab: Any) -> dict[str, int]:
    entries = tab.locator("#legend li[data-kind]").all()
    return {
        entry.get_attribute("data-kind"): int(entry.locator("b").inner_text().replace(",", "")) for entry in entries
    }


def set_slider(tab: Any, name: str, value: int) -> None:
    tab.locator(name).evaluate(f"(it) => {{ it.value = {value}; it.dispatchEvent(new Event('input')); }}")


def drawn(tab: Any) -> str:
    return tab.locator("#sheet canvas").first.evaluate("(it) => it.toDataURL()")


def test_the_slider_moves_through_the_points(tab, history):
    last = len(history.steps)
    slider = tab.locator("#step")
    assert slider.input_value() == slider.get_attribute("max") == str(last) == "2"
    pictures = set()
    for after in range(last, -1, -1):
        found = counts(tab)
        for kind, state in (("kept", KEPT), ("merged", MERGED), ("pruned", PRUNED)):
            assert found.get(kind, 0) == (history.states(after) == state).sum()
        name = str(history.steps[after - 1].point) if after else "before any reduction"
        assert name in tab.inner_text("#point") and name in slider.get_attribute("aria-valuetext")
        pictures.add(drawn(tab))
        slider.focus()
        tab.keyboard.press("ArrowLeft")
    assert slider.input_value() == "0"
    assert len(pictures) == last + 1


def test_a_layer_of_the_chart_sets_the_point(tab, history):
    bars = tab.locator("#bars button")
    assert bars.count() == 4
    bars.nth(1).click()
    acted = sum(step.point.layer < 1 or str(step.point) == "before layer 1" for step in history.steps)
    assert tab.locator("#step").input_value() == str(acted)
    assert "shown" in bars.nth(1).get_attribute("class")


def test_pointing_at_a_patch_tells_its_state_and_marks_its_group(tab, history):
    last = len(history.steps)
    assert "Point at a patch" in tab.inner_text("#details")
    head = token_of(history, KEPT, last)
    group = set((history.holders(last) == head).nonzero()[0].tolist())
    assert len(group) > 1
    member = next(iter(group - {head}))
    point_at(tab, member)
    details = tab.inner_text("#details")
    assert "merged before layer 0 into frames" in details and f"stands for {len(group)} patches" in details
    marked = tab.locator("#sheet .marks rect").evaluate_all("(all) => all.map((it) => Number(it.dataset.token))")
    assert set(marked) == group
    assert tab.locator("#sheet .marks path.way").count() > 0
    point_at(tab, head)
    assert "kept" in tab.inner_text("#details .chip")
    point_at(tab, token_of(history, PRUNED, last))
    assert "pruned" in tab.inner_text("#details .chip")
    tab.mouse.move(2, 2)
    assert tab.locator("#sheet .marks rect").count() == 0 and "Point at a patch" in tab.inner_text("#details")


def test_what_happens_later_is_told_as_later(tab, history):
    later = int((history.gone == 1).nonzero()[0][0])
    set_slider(tab, "#step", 1)
    point_at(tab, later)
    assert "kept" in tab.inner_text("#details .chip")
    assert tab.locator("#details .events li.later").count() == 1


def test_a_click_enlarges_a_frame_and_sliders_work_there(tab, history):
    tab.locator("#sheet canvas").first.click()
    assert tab.locator("#large").evaluate("(it) => it.open")
    assert tab.inner_text("#large-name") == "frames 1–2"
    tab.locator("#frame").focus()
    tab.keyboard.press("ArrowRight")
    assert tab.inner_text("#large-name") == "frames 3–4"
    set_slider(tab, "#large-step", 1)
    assert tab.locator("#step").input_value() == "1"
    token = int(scene(FAMILY, METHOD, dense=True).pictures[1].cells[0, 0])
    point_at(tab, token, "#large-sheet")
    assert "frames 3–4" in tab.inner_text("#large-details h3")
    tab.keyboard.press("Escape")
    assert not tab.locator("#large").evaluate("(it) => it.open")
    assert tab.evaluate("document.activeElement.dataset.picture") is not None


def test_the_keyboard_alone_reaches_patches(tab):
    tab.locator("#sheet canvas").first.focus()
    tab.keyboard.press("ArrowRight")
    assert "row 1, column 1" in tab.inner_text("#details")
    tab.keyboard.press("ArrowRight")
    tab.keyboard.press("ArrowDown")
    assert "row 2, column 2" in tab.inner_text("#details")
    tab.keyboard.press("Escape")
    assert "Point at a patch" in tab.inner_text("#details")
    tab.keyboard.press("Enter")
    assert tab.locator("#large").evaluate("(it) => it.open")


def test_modes_draw_different_pictures(tab):
    pictures = {drawn(tab)}
    for mode in ("left", "plain"):
        tab.locator(f"input[value={mode}] + span").click()
        pictures.add(drawn(tab))
    assert len(pictures) == 3


def test_answers_and_figures_are_shown(tab):
    seen = scene(FAMILY, METHOD, dense=True)
    assert seen.dense.text in tab.inner_text("[data-answer=dense]")
    assert seen.reduced.text in tab.inner_text("[data-answer=reduced]")
    assert tab.inner_text("h1") == "some <clip>.mp4"
    assert f"{seen.reduced.cost:.1%}" in tab.inner_text("#figures")


def test_dark_is_dark_and_light_is_light(browser, address):
    def brightness(scheme: str) -> int:
        for tab in opened(browser, address, color_scheme=scheme):
            colour = tab.evaluate("getComputedStyle(document.body).backgroundColor")
        return sum(int(part) for part in colour.strip("rgb()").split(","))

    assert brightness("dark") < 150 < 600 < brightness("light")


@pytest.mark.parametrize("width", [360, 768, 1600])
def test_nothing_sticks_out_at_any_width(browser, address, width):
    for tab in opened(browser, address, viewport={"width": width, "height": 800}):
        assert tab.evaluate("document.documentElement.scrollWidth") <= width
        tab.locator("#sheet canvas").first.click()
        assert tab.locator("#large").bounding_box()["width"] <= width


def test_a_prompt_nothing_was_taken_from(browser, tmp_path):
    path = tmp_path / "page.html"
    path.write_text(page(scene("llava_onevision", "tome")), encoding="utf-8")
    for tab in opened(browser, path.as_uri()):
        assert "Nothing was taken out" in tab.inner_text("#details")
        assert "inside the vision tower" in tab.inner_text("#notes")
        assert NOBODY == -1 and tab.locator("#step").get_attribute("max") == "0"


def test_patches_that_were_not_encoded_are_marked_and_told(browser, tmp_path):
    seen = scene("qwen2_5_vl", "pixel_dedup", keep=0.6)
    path = tmp_path / "page.html"
    path.write_text(page(seen), encoding="utf-8")
    again = (seen.repeats != np.arange(len(seen.repeats))).nonzero()[0]
    for tab in opened(browser, path.as_uri(), viewport={"width": 1300, "height": 900}):
        assert counts(tab)["repeated"] == again.size
        assert "patches encoded" in tab.locator("#figures").inner_text()
        number, place = next(
            (number, np.argwhere(picture.cells == again[-1])[0])
            for number, picture in enumerate(seen.pictures)
            if (picture.cells == again[-1]).any()
        )
        canvas = tab.locator(f"#sheet canvas[data-picture='{number}']")
        canvas.scroll_into_view_if_needed()
        box, (rows, columns) = canvas.bounding_box(), seen.pictures[number].cells.shape
        canvas.hover(
            position={"x": (place[1] + 0.5) / columns * box["width"], "y": (place[0] + 0.5) / rows * box["height"]}
        )
        told = tab.locator("#details .encoded").inner_text()
        shown = next(p.name for p in seen.pictures if (p.cells == seen.repeats[again[-1]]).any())
        assert "did not encode" in told and shown in told
