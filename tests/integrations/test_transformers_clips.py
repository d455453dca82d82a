"""Videos of a request to transformers' server are read as `framefusion run` reads them, never at full size together."""

from __future__ import annotations

import base64
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from framefusion.inference.answer.prompt import build_prompt
from framefusion.inference.video import load_clip, write_clip
from framefusion.integrations.transformers_serve.hooks import prepare
from framefusion.integrations.transformers_serve.metrics import Counters
from tests.support.films import SIDES, assert_read_alike, film, sizes_kept
from tests.support.seeing import checkpoint

FRAMES = 12


def served(name: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The processor of a model that the server has loaded."""
    found = checkpoint(name)
    monkeypatch.setattr(found.processor, "apply_chat_template", found.processor.apply_chat_template)
    model = SimpleNamespace(name_or_path=name, eval=lambda: found.model)
    prepare(model, found.processor, None, Counters())
    return found.processor


@pytest.mark.parametrize("inline", [False, True])
@pytest.mark.parametrize(("name", "smaller"), [("internvl", True), ("llava_onevision", True), ("llava", False)])
def test_frames_are_made_smaller_one_by_one(
    name: str, smaller: bool, inline: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "clip.mp4"
    write_clip(path, film(FRAMES), fps=4.0)
    expected = build_prompt(checkpoint(name), load_clip(path, frames=FRAMES), "what?")
    processor, kept = served(name, monkeypatch), sizes_kept(monkeypatch)
    url = "data:video/mp4;base64," + base64.b64encode(path.read_bytes()).decode() if inline else str(path)
    content = [{"type": "video", "url": url}, {"type": "text", "text": "what?"}]
    found = processor.apply_chat_template(
        [{"role": "user", "content": content}],
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
        num_frames=FRAMES,
    )
    assert_read_alike(found, expected)
    assert kept and (SIDES not in kept) == smaller
