"""Scores of a vision tower reach VisionZip, aligned with the tokens they belong to."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

pytest.importorskip("vllm", reason="vLLM is not installed; `make test-serving` sets it up")

from tests.serving import clips
from tests.serving.engine import Engine


@pytest.fixture(scope="module", params=["llava_onevision", "internvl"])
def watching(request: pytest.FixtureRequest, checkpoints: dict[str, Path]) -> Iterator[Engine]:
    from vllm.distributed import cleanup_dist_env_and_memory

    running = Engine(request.param, checkpoints[request.param], {"method": "visionzip", "keep": 0.5})
    yield running
    running.close()
    cleanup_dist_env_and_memory()


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
