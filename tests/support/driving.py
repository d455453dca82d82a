"""Prompt rows by hand and tiny models, to compare one method with its reference."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

import framefusion as ff
from framefusion.core.layout import PATCH, Geometry
from framefusion.core.method import Method, Point, Signals, before
from framefusion.core.plan import Plan
from framefusion.testing.signals import make_signals, run_stage
from tests.support.tiny import build_model, moving_clip, prompt

WIDTH, WORDS, HEADS, KEY_WIDTH = 12, 5, 2, 4
TINY_LAYERS = 4
FAMILIES = ("qwen3_vl", "llava_onevision")


def thinned(geometry: Geometry, seed: int = 0) -> Geometry:
    """Two thirds of the tokens: what an earlier method may have left, with frames of unequal size."""
    draw = torch.Generator().manual_seed(seed)
    kept = torch.randperm(len(geometry), generator=draw)[: 2 * len(geometry) // 3]
    return geometry[kept.sort().values]


LAYOUTS: dict[str, Geometry] = {
    "clip": Geometry.grid(4, 3, 3),
    "odd": Geometry.grid(5, 3, 5),
    "picture": Geometry.grid(1, 5, 4),
    "thinned": thinned(Geometry.grid(6, 3, 4)),
    "two tokens": Geometry.grid(2, 1, 1),
    "token": Geometry.grid(1, 1, 1),
}
CONTENTS = ("random", "still", "pairs", "equal", "zeros", "some zeros")


def content(kind: str, geometry: Geometry, seed: int = 0) -> Tensor:
    """(N, D) hidden states: all different, equal along time, equal in pairs, all equal, all or in part zero."""
    draw = torch.Generator().manual_seed(seed)
    values = torch.randn(len(geometry), WIDTH, generator=draw)
    places = torch.randn(int(geometry.patch.max()) + 1, WIDTH, generator=draw)
    number = torch.arange(len(geometry))
    return {
        "random": values,
        "still": places[geometry.patch],
        "pairs": values[number // 2],
        "equal": values[:1].repeat(len(geometry), 1),
        "zeros": torch.zeros_like(values),
        "some zeros": values * (number % 3 > 0)[:, None],
    }[kind]


def row(
    geometry: Geometry, hidden: Tensor, seed: int = 0, point: Point | None = None, words: int = WORDS, asking: int = 3
) -> Signals:
    """A prompt row of `words` text tokens, the last `asking` of them after the visual ones."""
    draw = torch.Generator().manual_seed(seed + 50)
    weights = torch.randn(HEADS, asking, len(geometry) + words, generator=draw).softmax(-1)[..., : len(geometry)]
    return make_signals(
        geometry,
        hidden,
        before(0) if point is None else point,
        text=torch.randn(words, WIDTH, generator=draw).to(hidden.dtype),
        asks=torch.arange(words) >= words - asking,
        keys=torch.randn(len(geometry), HEADS, KEY_WIDTH, generator=draw).to(hidden.dtype),
        text_keys=torch.randn(words, HEADS, KEY_WIDTH, generator=draw).to(hidden.dtype),
        attention=weights.mean(0),
        text_attention=weights,
    )


def plan_of(method: Method, signals: Signals) -> Plan:
    plan = run_stage(method, signals)
    assert plan is not None
    return plan


def kept_by(method: Method, signals: Signals) -> list[int]:
    return plan_of(method, signals).keep.tolist()


def assert_clips_apart(method: Method, point: Point | None = None) -> None:
    """A clip keeps the same whether another stands beside it or not, at any scale of the other's values."""
    first, second = Geometry.grid(4, 3, 3), Geometry.grid(2, 4, 4)
    both = Geometry.cat([first, second.as_clip(1)])
    signals = row(both, torch.cat([content("random", first), 5.0 * content("random", second, 1)]), point=point)
    split = torch.arange(len(both)) < len(first)
    alone = [kept_by(method, signals.part(part.nonzero().flatten())) for part in (split, ~split)]
    assert kept_by(method, signals) == alone[0] + [len(first) + token for token in alone[1]]


def assert_newlines_follow(method: Method, point: Point | None = None) -> None:
    """The newline of a row of patches stays exactly as long as one of its patches."""
    geometry = Geometry.grid(2, 4, 3, row_newline=True)
    kept = geometry[plan_of(method, row(geometry, content("random", geometry), point=point)).keep]
    rows = [
        set(zip(part.frame.tolist(), part.row.tolist(), strict=True)) for part in (_of(kept, True), _of(kept, False))
    ]
    assert rows[0] == rows[1]


def _of(geometry: Geometry, patches: bool) -> Geometry:
    return geometry[((geometry.kind == PATCH) == patches).nonzero().flatten()]


def assert_inputs_unchanged(method: Method, point: Point | None = None) -> None:
    """Deciding twice gives the same plan, and changes nothing it was given."""
    geometry = LAYOUTS["odd"]
    hidden = content("random", geometry)
    signals, copy = row(geometry, hidden, point=point), hidden.clone()
    first, second = plan_of(method, signals), plan_of(method, signals)
    assert torch.equal(first.keep, second.keep) and torch.equal(first.apply(hidden), second.apply(hidden))
    assert torch.equal(hidden, copy)


def assert_identity(method: Method, point: Point | None = None) -> None:
    for kind in CONTENTS:
        for geometry in LAYOUTS.values():
            hidden = content(kind, geometry).to(torch.bfloat16)
            assert torch.equal(plan_of(method, row(geometry, hidden, point=point)).apply(hidden), hidden)


@cache
def tiny_model(family: str) -> nn.Module:
    return build_model(family, layers=TINY_LAYERS)


@cache
def tiny_inputs(family: str, number: int | None = None) -> dict[str, Any]:
    """A left-padded batch of two rows, one of them with two clips, or one row of it."""
    clips = [moving_clip(seed=seed, change=1.0) for seed in range(3)]
    rows = [
        [("video", clips[0]), ("text", "what?")],
        [("text", "see "), ("video", clips[1]), ("text", " and "), ("video", clips[2]), ("text", "who is it?")],
    ]
    return prompt(family, rows if number is None else [rows[number]])


def in_a_model(method: Method, family: str) -> ff.Reduction:
    """Generate with a batch and with its rows alone, which must agree; the reduction has seen the batch last."""
    model, options = tiny_model(family), {"max_new_tokens": 3, "do_sample": False}
    with ff.reduce(model, method) as reduction:
        alone = [model.generate(**tiny_inputs(family, n), **options)[0, -3:].tolist() for n in range(2)]  # type: ignore
        together = model.generate(**tiny_inputs(family), **options)[:, -3:].tolist()  # type: ignore[operator]
    assert together == alone
    return reduction


def assert_declared(method: Method, family: str, count: Callable[[int], int], layer: int = 0) -> None:
    """From `layer` on, layers read `count` of the patches of each clip, and what closes the clip."""
    report = in_a_model(method, family).report
    assert report.layout is not None
    expected = 0
    for geometry, _ in report.layout.rows:
        for clip in geometry.clip.unique():
            kinds = geometry.kind[geometry.clip == clip]
            expected += count(int((kinds == PATCH).sum())) + int((kinds != PATCH).sum())
    total = sum(report.layout.visual_tokens)
    assert [seen.visual_in for seen in report.layers] == [
        total if number < layer else expected for number in range(TINY_LAYERS)
    ]
