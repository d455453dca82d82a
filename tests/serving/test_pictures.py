"""Pictures on the real engine: reduced where a setting says so, several in a request, cut into tiles."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import framefusion as ff
from framefusion.core.layout import PATCH
from framefusion.integrations.vllm.rules import OF_PICTURES, RULES
from tests.serving import clips
from tests.serving.engine import TAKES_METADATA, Answer, Engine

pytest.importorskip("vllm", reason="vLLM is not installed; `make test-serving` sets it up")

ROUNDING = 2e-4
FEATURES = 1e-4
SIDE, BLOCK = clips.SIDE, clips.SIDE // 4
# Height and width: the second one is cut into tiles where a family does that.
SIZES = ((SIDE, SIDE), (SIDE, 2 * SIDE))
METHODS = [name for name in OF_PICTURES if not RULES[name].tower and not RULES[name].within]
ALONE, TEXT = "See {i} and {i} now?", "See {i}, {v} and {i} now?"
TOKENS = {
    # The squares of InternVL are one tile; a wide one is two and the whole picture. LLaVA-OneVision shows every
    # picture whole and in tiles.
    "qwen2_5_vl": (16, 32),
    "qwen3_vl": (16, 32),
    "llava_onevision": (64 + 64, 64 + 128),
    "internvl": (16, 3 * 16),
}


def pictures() -> list[Image.Image]:
    return [Image.fromarray(clips.moving(1, seed, 2 * SIDE)[0, :h, :w]) for seed, (h, w) in enumerate(SIZES)]


def asked(engine: Engine, settings: Any = False, text: str = ALONE, **others: Any) -> dict[str, Any]:
    """settings: of the pictures."""
    videos = [clips.moving(4)] if "{v}" in text else []
    return engine.request(text, videos, pictures(), pictures=settings, **others)


def length(engine: Engine, request: dict[str, Any]) -> int:
    return len(engine.ask(request, tokens=1)[0].prompt)


def assert_same(first: Answer, second: Answer) -> None:
    assert first.tokens == second.tokens
    assert first.scores == pytest.approx(second.scores, abs=ROUNDING)


def test_keeping_everything_is_the_stock_engine(engine):
    with engine.stock():
        (stock,) = engine.ask(asked(engine, text=TEXT) | {"mm_processor_kwargs": {}})
        expected = torch.cat(engine.positions, -1)
    for settings in (False, {"method": "divprune", "keep": 1.0}):
        (whole,) = engine.ask(asked(engine, settings, TEXT, keep=1.0))
        assert torch.equal(torch.cat(engine.positions, -1), expected)
        assert len(whole.prompt) == len(stock.prompt)  # text between frames shows as placeholders
        assert whole.tokens == stock.tokens and whole.scores == stock.scores


@dataclass(frozen=True)
class Watched:
    """Of all pictures of a request. rows: (N, C) before the reduction. kept: (K,) patches that stayed. patches: (n,)
    tokens that are patches."""

    rows: torch.Tensor
    kept: torch.Tensor
    patches: torch.Tensor


def watch(engine: Engine, request: dict[str, Any]) -> Watched:
    rows: list[torch.Tensor] = []
    stayed, is_patch = [], []
    original = engine.model._kept

    def keep(given: torch.Tensor, passage: Any, vision: Any) -> Any:
        values, which = original(given, passage, vision)
        rows.append(given)
        visual = passage.mask[passage.first : passage.last].nonzero().flatten()
        stayed.append(torch.isin(visual, which))
        is_patch.append(passage.recipe.geometry().kind == PATCH)
        return values, which

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine.model, "_kept", keep)
        engine.forget()
        engine.ask(request, tokens=1)
    patches = torch.cat(is_patch)
    return Watched(torch.cat(rows), (torch.cat(stayed) & patches).nonzero().flatten(), patches.nonzero().flatten())


LIBRARY = {
    "uniform": ff.Uniform(keep=0.4),
    "temporal_ward": ff.TemporalWard(keep=0.4, proportional_attention=False),
    "divprune": ff.DivPrune(keep=0.4),
    "cdpruner": ff.CDPruner(keep=0.4, theta=0.0),
}


@pytest.mark.parametrize("method", LIBRARY)
def test_what_is_kept_is_what_the_library_keeps(engine, stock, method):
    request = asked(engine, {"method": method, "keep": 0.4})
    served = watch(engine, request)
    seen = stock.ask(request["prompt"], [], LIBRARY[method], pictures())
    patches = seen.kept[torch.isin(seen.kept, served.patches)]
    assert served.kept.tolist() == patches.tolist()
    assert len(served.patches) == sum(TOKENS[engine.name])
    assert torch.allclose(served.rows, seen.rows, atol=FEATURES)


@pytest.mark.parametrize("method", METHODS)
def test_every_picture_keeps_its_share(engine, method):
    whole, less = (length(engine, asked(engine, {"method": method, "keep": keep})) for keep in (1.0, 0.25))
    assert whole - less == sum(TOKENS[engine.name]) * 3 // 4


def test_methods_differ(engine):
    scores = [engine.ask(asked(engine, {"method": method, "keep": 0.4}))[0].scores for method in METHODS]
    assert len({tuple(row) for row in scores}) == len(METHODS)


def page(height: int = SIDE, width: int = SIDE) -> Image.Image:
    """White paper with a line of one block that repeats, and a single block in the last corner."""
    pixels = np.full((height, width, 3), 255, np.uint8)
    block = clips.moving(1, 3, BLOCK)[0]
    for column in range(1, width // BLOCK):
        pixels[BLOCK : 2 * BLOCK, column * BLOCK : (column + 1) * BLOCK] = block
    pixels[-BLOCK:, -BLOCK:] = clips.moving(1, 4, BLOCK)[0]
    return Image.fromarray(pixels)


def test_blocks_that_repeat_leave_the_prompt(engine, stock):
    def asked_about(settings: Any) -> dict[str, Any]:
        return engine.request("See {i} now?", [], [page()], pictures=settings)

    if engine.name == "llava_onevision":
        with pytest.raises(ValueError, match="`pixel_prune` cannot reduce this picture"):
            engine.ask(asked_about("pixel_prune"))
        return
    request = asked_about("pixel_prune")
    served = watch(engine, request)
    # The corner, the first block of the line, the white below it where the line was expected, and the single block.
    assert served.kept.tolist() == [0, 5, 9, 15]
    whole = stock.ask(request["prompt"], [], ff.Uniform(keep=1.0), [page()])
    assert torch.allclose(served.rows, whole.rows, atol=FEATURES)
    assert length(engine, asked_about(False)) - length(engine, request) == 16 - 4
    noise = engine.request("See {i} now?", [], pictures()[:1], pictures="pixel_prune")
    assert length(engine, noise) == length(engine, asked_about(False))


def test_positions_of_survivors_are_those_of_the_unreduced_prompt(engine):
    if engine.name not in TAKES_METADATA:
        pytest.skip("positions of this family count the tokens that are left")
    engine.ask(asked(engine, False, TEXT, keep=1.0), tokens=1)
    expected = torch.cat(engine.positions, -1)
    whole = {tuple(column) for column in expected.T.tolist()}
    for settings in ("uniform", "divprune", "prumerge"):
        engine.ask(asked(engine, settings, TEXT, keep=0.5), tokens=1)
        found = torch.cat(engine.positions, -1)
        assert {tuple(column) for column in found.T.tolist()} < whole
        assert torch.equal(found[:, -1], expected[:, -1])


def test_a_prompt_read_in_chunks_is_the_prompt_read_at_once(engine):
    request = asked(engine, {"method": "divprune", "keep": 0.5}, TEXT)
    (whole,) = engine.ask(request)
    expected = torch.cat(engine.positions, -1)
    with engine.chunks_of(17):
        (pieces,) = engine.ask(request)
    assert torch.equal(torch.cat(engine.positions, -1), expected)
    assert_same(pieces, whole)


def test_caches_never_mix_settings_and_requests_together_answer_as_alone(engine):
    settings = (False, "divprune", {"method": "divprune", "keep": 0.3}, {"method": "uniform", "keep": 0.3}, "prumerge")
    requests = [asked(engine, given, TEXT) for given in settings]
    alone = []
    for request in requests:
        engine.forget()
        alone += engine.ask(request)
    assert len({tuple(answer.scores) for answer in alone}) == len(alone)
    engine.forget()
    for turn in range(2):
        for together, single in zip(engine.ask(*requests, fresh=not turn), alone, strict=True):
            assert_same(together, single)


def test_what_pictures_cannot_be_is_said_and_the_engine_goes_on(engine):
    for wrong, words in (
        (True, "`framefusion` cannot reduce pictures"),
        ({"method": "evs"}, "`evs` cannot reduce pictures"),
        ({"method": "divprune", "keep": "pixels"}, "no meaning for pictures"),
        ({"method": "divprune", "keep": 0.0}, "keep must be"),
        ({"method": "divprune", "neighbours": 3}, "no option `neighbours`"),
        ({"method": "visionzip"}, "cannot be chosen by a request"),
        ({"method": "pixel_prune", "keep": 0.3}, "has no budget"),
        ({"method": "pixel_prune", "threshold": 2}, "threshold must be"),
    ):
        with pytest.raises(ValueError, match=words):
            engine.ask(asked(engine, wrong))
    assert engine.ask(asked(engine, "divprune"))[0].tokens
