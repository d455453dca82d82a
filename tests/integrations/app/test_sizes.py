"""The app keeps frames as large as the model reads them, and shows how large they were."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("gradio", reason="pip install 'framefusion[app]'")

from framefusion.inference.answer.prompt import build_prompt
from framefusion.inference.video import Clip, load_clip, write_clip
from framefusion.integrations.app import events as events_module
from framefusion.integrations.app.events import Events, Source
from framefusion.integrations.app.limits import Limits
from framefusion.integrations.app.reading import Reader
from framefusion.integrations.app.settings import Settings
from framefusion.integrations.app.uploads import Uploads
from tests.support.films import SIDES, assert_read_alike, film
from tests.support.seeing import checkpoint

pytestmark = pytest.mark.slow
FRAMES, VISITOR = 12, SimpleNamespace(session_hash="x")


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[Clip]:
    """Every clip that reached the process with the model."""
    found: list[Clip] = []
    stock = Reader.clip

    def clip(self: Reader, *given: Any) -> tuple[Clip, float]:
        found.append(stock(self, *given)[0])
        return found[-1], 1.0

    monkeypatch.setattr(Reader, "clip", clip)
    return found


@pytest.mark.parametrize(("name", "smaller"), [("internvl", True), ("llava", False)])
def test_frames_are_those_the_model_reads(
    name: str, smaller: bool, read: list[Clip], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_clip(tmp_path / "clip.mp4", film(FRAMES), fps=4.0)
    whole = load_clip(tmp_path / "clip.mp4", frames=FRAMES)
    (tmp_path / "own").mkdir()
    usual, limits = Settings(name, "framefusion", 0.3, FRAMES, "what?"), Limits()
    page = Events({name: checkpoint(name)}, usual, limits, Uploads(tmp_path / "own", limits), Reader(tmp_path))
    source, shown = page.dropped(str(tmp_path / "clip.mp4"), FRAMES, VISITOR)[1:]
    assert source == Source() and f"{SIDES[1]} × {SIDES[0]}, {whole.duration:.1f} s" in shown
    assert read[0].frames.shape == (FRAMES, 96, 128, 3)
    monkeypatch.setattr(events_module, "answers", lambda *given: iter(()))
    list(page.asked(source, name, "framefusion", 0.3, FRAMES, "what?", VISITOR))
    assert (read[1].frames.nbytes < whole.frames.nbytes) == smaller and len(read) == 2
    small, large = (build_prompt(checkpoint(name), clip, "what?") for clip in (read[1], whole))
    assert_read_alike(small, large)
