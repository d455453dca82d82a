"""The app in a browser, and its server asked by hand: a clip goes in, both answers and the token map come out."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest

from framefusion.core.registry import method
from framefusion.inference.answer.answer import ask
from framefusion.inference.answer.checkpoint import Checkpoint, load_checkpoint
from framefusion.inference.answer.prompt import build_prompt
from framefusion.inference.tiny import NAME as TINY
from framefusion.inference.video import load_clip
from framefusion.integrations.app import uploads
from framefusion.integrations.app.limits import Limits
from framefusion.integrations.app.settings import Settings
from tests.project.tree import ROOT
from tests.support.browser import browser as browser

pytestmark = pytest.mark.slow
CLIP = ROOT / "framefusion" / "cli" / "demo_clip" / "example.mp4"
QUESTION = "which colour flashed?"
LIMITS = Limits(upload=2**20, frames=32, new_tokens=4)
WAIT = 120_000
READABLE = 4.5
"""Contrast of text and ground, at least."""


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return load_checkpoint(TINY, device="cpu")


@pytest.fixture(scope="module")
def held() -> list[Any]:
    """The store of uploads of the running server."""
    return []


@pytest.fixture(scope="module")
def address(checkpoint: Checkpoint, held: list[Any]) -> Iterator[str]:
    pytest.importorskip("gradio", reason="the extra `app` is not installed")
    from framefusion.integrations.app import server

    class Watched(uploads.Uploads):
        def __init__(self, *given: Any) -> None:
            super().__init__(*given)
            held.append(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(server, "Uploads", Watched)
        usual = Settings(TINY, "temporal_ward", 0.3, 32, QUESTION)
        with server.serving({TINY: checkpoint}, usual, LIMITS) as address:
            yield address
    assert not held[0].folder.exists()


@pytest.fixture
def visit(browser: Any, address: str) -> Iterator[Any]:
    """Opens pages; errors on them and requests beyond the server fail the test."""
    errors: list[str] = []
    requests: list[str] = []
    contexts = []

    def open_page(query: str = "", **options: Any) -> Any:
        context = browser.new_context(**options)
        contexts.append(context)
        tab = context.new_page()
        tab.set_default_timeout(WAIT)
        tab.on("pageerror", lambda error: errors.append(str(error)))
        tab.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        tab.on("request", lambda request: requests.append(request.url))
        tab.goto(address + query)
        tab.wait_for_selector("#ff-ask")
        return tab

    yield open_page
    for context in contexts:
        context.close()
    assert not errors
    assert not [url for url in requests if not url.startswith((address, "data:", "blob:", "about:"))]


def drop(tab: Any, path: Path | dict[str, Any] = CLIP) -> None:
    tab.set_input_files("#ff-file input[type=file]", path)
    tab.wait_for_selector("#ff-clip :is(.ff-strip img, .ff-problem)")


def answered(tab: Any) -> dict[str, str]:
    """Presses the button; the words of both answers, or what went wrong."""
    earlier = "document.querySelectorAll('.ff-map, .ff-problem').forEach((it) => it.classList.add('earlier'))"
    tab.evaluate(earlier)
    tab.click("#ff-ask")
    tab.wait_for_selector(":is(.ff-map, #ff-status .ff-problem):not(.earlier)")
    if tab.locator("#ff-status .ff-problem").count():
        return {"problem": tab.inner_text("#ff-status .ff-problem")}
    return {name: tab.inner_text(f"[data-answer={name}][data-state=complete] p") for name in ("dense", "reduced")}


def test_a_clip_goes_in_and_both_answers_and_the_map_come_out(visit, checkpoint, held):
    tab = visit(viewport={"width": 1400, "height": 1000}, color_scheme="light")
    drop(tab)
    assert "example.mp4" in tab.inner_text("#ff-clip")
    inputs = build_prompt(checkpoint, load_clip(CLIP, frames=32), QUESTION)
    variants = {"dense": None, "reduced": method("temporal_ward")(keep=0.3).for_family(checkpoint.family)}
    assert answered(tab) == {name: ask(checkpoint, inputs, each, 4).text for name, each in variants.items()}
    assert tab.locator("#ff-answers .ff-notes li").count() == 0
    took = tab.inner_text("#ff-took")
    assert "Where the time went" in took and "vision tower" in took and "reading the clip" in took

    inside = tab.frame_locator(".ff-map")
    inside.locator("html[data-ready]").wait_for()
    said, drawn = set(), set()
    for after in (0, 1):
        set_slider(inside, "#step", after)
        said.add(inside.locator("#point").inner_text())
        drawn.add(inside.locator("#sheet canvas").evaluate("(it) => it.toDataURL()"))
    assert len(said) == len(drawn) == 2
    set_slider(inside, "#frame", 3)
    assert inside.locator("#frame-name").inner_text() == "frame 4"
    drawn.add(inside.locator("#sheet canvas").evaluate("(it) => it.toDataURL()"))
    assert len(drawn) == 3
    # The clip is in no link, and gone when its visitor is.
    assert "example" not in tab.url
    assert len(list(held[0].folder.iterdir())) == 1
    tab.context.close()
    for _ in range(200):
        if not list(held[0].folder.iterdir()):
            return
        threading.Event().wait(0.1)
    raise AssertionError("the clip outlived its visitor")


def test_what_the_embedded_model_was_not_made_for_is_told_beside_its_answers(visit, tmp_path):
    from PIL import Image

    Image.new("RGB", (80, 60), "red").save(tmp_path / "red.png")
    tab = visit()
    drop(tab, tmp_path / "red.png")
    tab.fill("#ff-question textarea", "Bonjour?")
    assert "problem" not in answered(tab)
    notes = tab.locator("#ff-answers .ff-notes li").all_inner_texts()
    assert len(notes) == 2 and "12 kinds of questions" in notes[0] and "no pictures" in notes[1]
    # Said once, not again below the map.
    assert tab.locator(".ff-notes li", has_text="12 kinds").count() == 1


def set_slider(inside: Any, name: str, value: int) -> None:
    inside.locator(name).evaluate(f"(it) => {{ it.value = {value}; it.dispatchEvent(new Event('input')); }}")


def test_a_link_keeps_the_settings_and_nobody_sees_another_s_clip(visit):
    evil = '<b id="evil">x</b><img src=x onerror="document.title=1"> ${alert(1)} {{1+1}}'
    wanted = {"model": TINY, "method": "uniform", "budget": "0.5", "frames": "8", "question": evil}
    first, second = visit("?" + urlencode(wanted)), visit("?model=/etc")
    assert "no model named" in second.inner_text("#ff-status")
    drop(first)
    assert "no clip" in answered(second)["problem"]
    assert first.locator("#ff-question textarea").input_value() == evil
    assert first.locator("#ff-method input").input_value() == "uniform"
    assert set(answered(first)) == {"dense", "reduced"}
    assert {name: values[0] for name, values in parse_qs(urlsplit(first.url).query).items()} == wanted
    # With a picture's placeholder in it, the question is a part of the message, too.
    first.fill("#ff-question textarea", evil + "<|video_pad|>")
    assert "<|video_pad|>" in answered(first)["problem"]
    for frame in first.frames:
        assert frame.locator("#evil").count() == 0 and frame.title() != "1"


def test_examples_need_no_file_and_what_is_no_clip_is_told(visit):
    tab = visit()
    tab.locator("#ff-examples button").nth(1).click()
    tab.wait_for_selector("#ff-clip .ff-strip img")
    assert "example 2" in tab.inner_text("#ff-clip")
    assert set(answered(tab)) == {"dense", "reduced"}
    drop(tab, {"name": "<i>.mp4", "mimeType": "video/mp4", "buffer": b"no video"})
    tab.wait_for_selector("#ff-clip .ff-problem")
    told = tab.inner_text("#ff-clip")
    assert "cannot be read" in told and "hint:" in told and "Traceback" not in told and "/tmp" not in told
    assert "no clip" in answered(tab)["problem"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_narrow_screen_and_follows_the_scheme(visit, scheme):
    tab = visit(viewport={"width": 390, "height": 844}, color_scheme=scheme)
    tab.locator("#ff-examples button").first.click()
    tab.wait_for_selector("#ff-clip .ff-strip img")
    answered(tab)
    assert tab.evaluate("document.documentElement.scrollWidth") <= 390
    tab.locator(".ff-map").scroll_into_view_if_needed()
    inside = tab.frame_locator(".ff-map")
    inside.locator("html[data-ready]").wait_for()
    assert inside.locator("html").evaluate("(it) => it.scrollWidth <= innerWidth")
    ground = tab.evaluate("getComputedStyle(document.body).backgroundColor")
    ink = inside.locator("body").evaluate("(it) => getComputedStyle(it).color")
    assert luminance(ground) < 0.1 < luminance(ink) if scheme == "dark" else luminance(ink) < 0.1 < luminance(ground)
    for quiet in (".ff-took th", ".ff-took small", ".ff-clip small"):
        shade = tab.locator(quiet).first.evaluate("(it) => getComputedStyle(it).color")
        assert contrast(shade, ground) >= READABLE, quiet


def luminance(colour: str) -> float:
    """Relative, of "rgb(…)", as the guidelines for accessible pages (WCAG 2) define it."""
    parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return sum(share * part for share, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one: str, other: str) -> float:
    dark, bright = sorted((luminance(one), luminance(other)))
    return (bright + 0.05) / (dark + 0.05)


def posted(address: str, path: str, body: bytes, kind: str) -> tuple[int, Any]:
    place = urlsplit(address)
    connection = HTTPConnection(place.hostname or "", place.port or 0)
    connection.request("POST", path, body, {"Content-Type": kind})
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer.status, json.loads(body) if answer.status == 200 else body


def upload(address: str, name: str, content: bytes) -> tuple[int, Any]:
    head = f'--mark\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n\r\n'
    body = head.encode() + content + b"\r\n--mark--\r\n"
    return posted(address, "/gradio_api/upload", body, "multipart/form-data; boundary=mark")


def test_uploads_are_bounded_and_their_names_lead_nowhere(address, held):
    assert upload(address, "x.mp4", bytes(3 * 2**20))[0] == 413
    assert upload(address, "x.mp4", bytes(LIMITS.upload + 1))[0] == 413
    status, (place,) = upload(address, "../../../evil.mp4", b"x")
    assert status == 200 and Path(place).name == "evil.mp4"
    served = Path(place).parents[1]
    assert served.name.startswith("framefusion-app-") and not (served.parent / "evil.mp4").exists()
    connection = HTTPConnection(urlsplit(address).netloc)
    for path in (f"/gradio_api/file={place}", f"/file={place}", f"/gradio_api/file={CLIP}"):
        connection.request("GET", path)
        answer = connection.getresponse()
        assert answer.status == 404 and answer.read() != b"x"


def test_an_address_in_place_of_a_file_is_not_asked(address):
    asked: list[str] = []

    class Loopback(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(302)
            self.send_header("Location", f"{address}config")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Loopback) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        own = f"http://127.0.0.1:{server.server_port}/x.mp4"
        file = {"path": own, "meta": {"_type": "gradio.FileData"}}
        for number in range(12):
            body = json.dumps({"data": [file, 4], "fn_index": number, "session_hash": "abc"}).encode()
            assert posted(address, "/gradio_api/queue/join", body, "application/json")[0] == 400
        server.shutdown()
    assert asked == []
