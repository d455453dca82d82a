"""The plugin on the real engine: what it promises about prompts, positions, caches and batches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import framefusion as ff
from tests.serving import clips
from tests.serving.engine import CLASS_TOKEN, TAKES_METADATA, Answer, Engine

pytest.importorskip("vllm", reason="vLLM is not installed; `make test-serving` sets it up")

METHODS = ("framefusion", "evs", "uniform", "divprune", "prumerge")
# Float32 sums in another order, by batches and chunks of another size.
ROUNDING = 2e-4
FEATURES = 1e-4
SHORT_CLIP = 32
"""Tokens of four frames where two make one step; eight frames have twice as many."""
TOWERS = ("visual", "vision_tower", "vpm")
TEXT = "Look at {v} and {i}, then at {v}. What is there?"


def mixed(engine: Engine, **settings: Any) -> dict[str, Any]:
    """Two videos and an image."""
    picture = Image.fromarray(clips.moving(1, seed=5)[0])
    # The stock engine stops at two videos of unequal length in this family.
    second = 8 if engine.name == "llava_onevision" else 4
    return engine.request(TEXT, [clips.moving(8, seed=1), clips.moving(second, seed=2)], [picture], **settings)


def one(engine: Engine, clip: np.ndarray | None = None, text: str = "See {v} now?", **settings: Any) -> dict[str, Any]:
    return engine.request(text, [clips.moving() if clip is None else clip], **settings)


def assert_same(first: Answer, second: Answer) -> None:
    assert first.tokens == second.tokens
    assert first.scores == pytest.approx(second.scores, abs=ROUNDING)


def length(engine: Engine, request: dict[str, Any]) -> int:
    return len(engine.ask(request, tokens=1)[0].prompt)


def test_keeping_everything_is_the_stock_engine(engine):
    with engine.stock():
        (stock,) = engine.ask(mixed(engine))
        expected = torch.cat(engine.positions, -1)
    (whole,) = engine.ask(mixed(engine, keep=1.0))
    assert torch.equal(torch.cat(engine.positions, -1), expected)
    assert whole.tokens == stock.tokens and whole.scores == stock.scores
    assert len(whole.prompt) == len(stock.prompt)


def test_the_stock_engine_says_something_else_about_another_clip(engine):
    """Else equal answers would prove nothing."""
    with engine.stock():
        first, second = engine.ask(one(engine), one(engine, clips.moving(seed=9)))
    assert first.scores != pytest.approx(second.scores, abs=100 * ROUNDING)


@pytest.mark.parametrize("method", METHODS)
def test_half_of_the_tokens_are_read(engine, method):
    whole, half = (length(engine, one(engine, method=method, keep=keep)) for keep in (1.0, 0.5))
    tokens = clips.TOKENS[engine.name]
    assert whole - half == tokens - round(tokens * 0.5)


def test_methods_differ(engine):
    scores = [engine.ask(one(engine, method=method, keep=0.5))[0].scores for method in METHODS]
    assert len({tuple(row) for row in scores}) == len(METHODS)


def test_merging_keeps_a_still_clip_whole(engine):
    """Frames that repeat merge into the first without loss: the first frame's rows stay what they are."""
    rows: list[torch.Tensor] = []
    original = type(engine.model).embed_multimodal

    def watched(self: Any, **kwargs: Any) -> Any:
        rows.extend(original(self, **kwargs))
        return rows[-1:]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(engine.model), "embed_multimodal", watched)
        for keep in (1.0, 0.25 if engine.name in TAKES_METADATA else 0.125):
            engine.forget()
            engine.ask(one(engine, clips.still(), method="framefusion", keep=keep), tokens=1)
    whole, merged = (part[:, : engine.model._width()] for part in rows)
    assert len(merged) < len(whole)
    assert torch.allclose(merged[:16], whole[:16], atol=1e-5)


def test_positions_of_survivors_are_those_of_the_unreduced_prompt(engine):
    if engine.name not in TAKES_METADATA:
        pytest.skip("positions of this family count the tokens that are left")
    engine.ask(mixed(engine, keep=1.0), tokens=1)
    whole = {tuple(column) for column in torch.cat(engine.positions, -1).T.tolist()}
    last = torch.cat(engine.positions, -1)[:, -1]
    for method in METHODS:
        engine.ask(mixed(engine, method=method, keep=0.5), tokens=1)
        found = torch.cat(engine.positions, -1)
        assert {tuple(column) for column in found.T.tolist()} < whole
        assert torch.equal(found[:, -1], last)


def test_a_count_may_keep_one_video_whole_beside_one_that_is_reduced(engine):
    """The one is the stock model's, the other ours, in one prompt."""
    if engine.name not in TAKES_METADATA:
        pytest.skip("positions of this family count the tokens that are left")
    (whole,) = engine.ask(mixed(engine, keep=1.0), tokens=1)
    columns = {tuple(column) for column in torch.cat(engine.positions, -1).T.tolist()}
    last = torch.cat(engine.positions, -1)[:, -1]
    (some,) = engine.ask(mixed(engine, method="uniform", keep=SHORT_CLIP), tokens=1)
    found = torch.cat(engine.positions, -1)
    assert len(some.prompt) == len(whole.prompt) - SHORT_CLIP == found.shape[1]
    assert {tuple(column) for column in found.T.tolist()} < columns and torch.equal(found[:, -1], last)


def test_a_cached_prefix_inside_a_video_is_a_cold_run(engine):
    """The second question shares the video; its prefix ends inside the video or behind it."""
    for text in ("See {v} now?", "See {v} later!"):
        (cold,) = engine.ask(one(engine, text=text))
        engine.ask(one(engine, text="See {v}"))
        (warm,) = engine.ask(one(engine, text=text), fresh=False)
        assert sum(part.shape[-1] for part in engine.positions) < len(cold.prompt) + len(cold.tokens) - 1
        assert_same(warm, cold)


@pytest.mark.parametrize("chunk", [17, 40])
def test_a_prompt_read_in_chunks_is_the_prompt_read_at_once(engine, chunk):
    """Chunks end inside videos, between text and video, and inside text."""
    (whole,) = engine.ask(mixed(engine))
    expected = torch.cat(engine.positions, -1)
    with engine.chunks_of(chunk):
        (pieces,) = engine.ask(mixed(engine))
    steps = [part.shape[-1] for part in engine.positions]
    assert max(steps) <= chunk < len(whole.prompt) and len(steps) > len(whole.tokens)
    assert torch.equal(torch.cat(engine.positions, -1), expected)
    assert_same(pieces, whole)


def test_requests_together_answer_as_alone(engine):
    requests = [
        one(engine),
        mixed(engine),
        one(engine, clips.moving(4, seed=3), keep=0.75),
        engine.request("No picture here.", []),
        one(engine, method="evs", keep=0.5),
    ]
    alone = [engine.ask(request)[0] for request in requests]
    for together, single in zip(engine.ask(*requests), alone, strict=True):
        assert_same(together, single)


def test_videos_of_unequal_length(engine):
    def prompt(keep: float) -> int:
        request = engine.request("{v}{v}?", [clips.moving(8, seed=1), clips.moving(4, seed=2)], keep=keep)
        (answer,) = engine.ask(request)
        assert len(answer.tokens) == 6
        return len(answer.prompt)

    assert prompt(1.0) - prompt(0.5) == clips.TOKENS[engine.name] * 3 // 4


def test_moving_clips_keep_more_than_still_ones(engine):
    still, moving = (
        length(engine, one(engine, clip, keep="pixels", pixel_change=0.1)) for clip in (clips.still(), clips.moving())
    )
    dense = length(engine, one(engine, keep=1.0))
    assert still < moving <= dense
    first_frame = 16
    assert dense - still == clips.TOKENS[engine.name] - first_frame


@dataclass
class Watched:
    """Of one video. rows: (N, C) what the tower gave. kept: (K,) tokens that stayed. blocks: rows of each call of the
    tower's first block. front: rows of it that are no patches."""

    rows: torch.Tensor
    kept: torch.Tensor
    blocks: int
    front: int


def watch(engine: Engine, request: dict[str, Any]) -> Watched:
    found: list[Any] = []
    blocks: list[int] = []
    original = engine.model._kept

    def keep(rows: torch.Tensor, passage: Any, vision: Any) -> Any:
        values, which = original(rows, passage, vision)
        visual = passage.mask[passage.first : passage.last].nonzero().flatten()
        found.append((rows, torch.isin(visual, which).nonzero().flatten(), passage))
        return values, which

    tower = next(getattr(engine.model, name) for name in TOWERS if hasattr(engine.model, name))
    block = next(module for name, module in tower.named_modules() if name.endswith(".mlp"))
    count = block.register_forward_pre_hook(lambda module, args: blocks.append(args[0].shape[:-1].numel()))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine.model, "_kept", keep)
        engine.ask(request, tokens=1)
    count.remove()
    ((rows, kept, passage),) = found
    front = int(passage.encoded.flatten(1).any(1).sum()) if engine.name in CLASS_TOKEN else 0
    return Watched(rows, kept, sum(blocks), front)


def chained(kept: int) -> ff.Method:
    return ff.Chain(ff.PixelDedup(blend=False), ff.TemporalWard(keep=kept))


FROM_PIXELS = {
    "pixel_dedup": ({"method": "pixel_dedup"}, lambda kept: ff.PixelDedup(mode="merge")),
    "pixel_dedup of a budget": (
        {"method": "pixel_dedup", "keep": 0.6, "refresh": 2},
        lambda kept: ff.PixelDedup(keep=0.6, refresh=2, mode="merge"),
    ),
    "another method": ({"method": "temporal_ward", "keep": "pixels"}, chained),
}


@pytest.mark.parametrize("rule", FROM_PIXELS)
def test_units_that_pixels_leave_out_are_not_encoded(engine, stock, rule):
    """Kept tokens and their features are the library's, of the same rule on stock transformers."""
    settings, method = FROM_PIXELS[rule]
    engine.forget()
    tokens = clips.TOKENS[engine.name]
    request = one(engine, clips.corners(), **settings)
    served = watch(engine, request)
    seen = stock.ask(request["prompt"], [clips.corners()], method(int((served.kept < tokens).sum())))
    assert served.blocks - served.front == seen.patches < 0.6 * seen.patches_dense
    assert served.kept.tolist() == seen.kept.tolist()
    assert torch.allclose(served.rows[served.kept], seen.rows[seen.kept], atol=FEATURES)


def test_pixels_of_units_that_are_left_out_do_not_travel(engine):
    """Nor does a tower that can only encode everything miss them."""
    if engine.name not in TAKES_METADATA:
        pytest.skip("pixels of this family come in whole frames")
    # All that changes is encoded, so that repeating the rest makes the clip it was.
    request = one(engine, clips.corners(), method="pixel_dedup", threshold=0.01)
    sent: list[int] = []
    original = type(engine.model).embed_multimodal

    def watched(self: Any, **kwargs: Any) -> Any:
        sent.append(len(kwargs["pixel_values_videos"]))
        return original(self, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(engine.model), "embed_multimodal", watched)
        engine.forget()
        cut = watch(engine, request)
        patch.setattr(engine.model, "leaving_out", None)
        engine.forget()
        full = watch(engine, request)
    engine.forget()
    dense = watch(engine, one(engine, clips.corners(), method="uniform", keep=0.9))
    assert sent == [cut.blocks] * 2 and cut.blocks < 0.6 * full.blocks == 0.6 * dense.blocks
    assert full.kept.tolist() == cut.kept.tolist()
    assert torch.allclose(full.rows, dense.rows, atol=FEATURES)


def test_caches_never_mix_settings(engine):
    """One clip under several settings, in either order and again: each answers as with empty caches."""
    settings = (
        {"keep": "pixels"},
        {"method": "pixel_dedup", "keep": 0.4},
        {"method": "temporal_ward", "keep": "pixels", "pixel_change": 1.0},
        {"keep": 0.5},
        {"keep": 1.0},
    )
    requests = [one(engine, clips.corners(), **given) for given in settings]
    alone = []
    for request in requests:
        engine.forget()
        alone += engine.ask(request)
    assert len({tuple(answer.scores) for answer in alone}) == len(alone)
    order = [*range(len(requests))]
    for turn in (order, order[::-1]):
        engine.forget()
        for number in (*turn, *turn):
            (answer,) = engine.ask(requests[number], fresh=False)
            assert_same(answer, alone[number])


def test_positions_stay_exact_far_behind_a_long_video(engine):
    """More than 256 time steps, where bfloat16 no longer counts in ones."""
    if engine.name != "qwen2_5_vl":
        pytest.skip("the other families' positions need more tokens than this engine takes")
    long = clips.still(600, side=28)
    settings = {"method": "uniform", "keep": 300}
    engine.ask(engine.request("{v}?", [long], **settings), tokens=1)
    found = torch.cat(engine.positions, -1)
    with engine.stock():
        text = len(engine.ask(engine.request("?", []), tokens=1)[0].prompt)
    assert text == 1
    times = found[0, 1:301]
    assert times.max() > 256 and times.diff().unique().numel() == 1


def test_a_request_in_error_does_not_stop_the_engine(engine):
    for wrong in ({"keep": 1.5}, {"method": "fastv"}, {"keep": "much"}, {"unheard": 1}):
        with pytest.raises(ValueError, match=r"keep|fastv|unheard"):
            engine.ask(one(engine, **wrong))
    assert engine.ask(one(engine))[0].tokens
