"""Scores of a vision tower reach VisionZip, aligned with the tokens they belong to."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("vllm", reason="vLLM is not installed; `make test-serving` sets it up")

import framefusion as ff
from tests.serving import clips
from tests.serving.engine import Engine, OneEngine
from tests.serving.stock_model import StockModel
from tests.serving.test_pictures import asked, pictures, watch


@pytest.fixture(scope="module", params=["llava_onevision", "internvl"])
def watched(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def watching(watched: str, engines: OneEngine) -> Engine:
    return engines.of(watched, {"method": "visionzip", "keep": 0.5, "pictures": True})


def test_visionzip_keeps_its_share_of_every_frame(watching):
    def prompt(keep: float) -> int:
        (answer,) = watching.ask(watching.request("{v}?", [clips.moving()], keep=keep), tokens=1)
        return len(answer.prompt)

    assert prompt(1.0) - prompt(0.25) == clips.TOKENS[watching.name] * 3 // 4


def test_scores_belong_to_their_frames(watching):
    """Every frame is encoded by itself, so a frame's scores do not depend on what comes before or after it."""
    seen: list[list] = []
    original = watching.model.tower_signals

    def watched(passages):
        found = original(passages)
        seen.append(found)
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(watching.model, "tower_signals", watched)
        clip = clips.moving(4)
        for shown in (clip, clip[2:]):
            watching.ask(watching.request("{v}?", [shown]), tokens=1)
    long, short = (signals[0] for signals in seen)
    for layer in (-1, -2):
        scores, tail = long.saliency(layer, False), short.saliency(layer, False)
        assert torch.allclose(scores[32:64], tail[:32], atol=1e-5)
        assert not torch.allclose(scores[:32], scores[32:64], atol=1e-5)
        assert torch.allclose(long.keys(layer)[32:64], short.keys(layer)[:32], atol=1e-4)


def test_pictures_keep_what_the_library_keeps(watching, checkpoints):
    """Tiles of InternVL are decided one by one, like frames."""
    request = asked(watching, True, keep=0.5)
    if watching.name == "llava_onevision":
        with pytest.raises(ValueError, match="cut into tiles"):
            watching.ask(request)
        request = asked(watching, "divprune")
        assert watching.ask(request)[0].tokens
        return
    served = watch(watching, request)
    stock = StockModel(watching.name, checkpoints[watching.name])
    seen = stock.ask(request["prompt"], [], ff.VisionZip(keep=0.5), pictures())
    assert served.kept.tolist() == seen.kept.tolist()
    assert len(seen.kept) == len(served.rows) // 2
