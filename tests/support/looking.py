"""Prompt rows with a made-up vision tower, and tiny models with a real one, for methods that look into it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from framefusion.core.layout import PATCH, Geometry, frame_groups
from framefusion.core.method import Method, Signals, VisionSignals, before
from framefusion.testing.signals import make_signals
from tests.support.driving import TINY_LAYERS, in_a_model, kept_by, plan_of, thinned, tiny_inputs, tiny_model  # noqa: F401

WIDTH, KEY_WIDTH = 12, 8
FAMILIES = ("llava", "llava_onevision", "qwen2_5_vl", "qwen3_vl", "internvl")


LAYOUTS: dict[str, Geometry] = {
    "picture": Geometry.grid(1, 6, 6),
    "odd picture": Geometry.grid(1, 5, 7),
    "clip": Geometry.grid(3, 4, 5),
    "thinned": thinned(Geometry.grid(4, 4, 4)),
    "two tokens": Geometry.grid(2, 1, 1),
    "token": Geometry.grid(1, 1, 1),
}
CONTENTS = ("random", "pairs", "equal", "zeros", "some zeros")


def content(kind: str, count: int, width: int = WIDTH, seed: int = 0) -> Tensor:
    """(count, width) states: all different, equal in pairs, all equal, all or in part zero."""
    values = torch.randn(count, width, generator=torch.Generator().manual_seed(seed))
    number = torch.arange(count)
    return {
        "random": values,
        "pairs": values[number // 2],
        "equal": values[:1].repeat(count, 1),
        "zeros": torch.zeros_like(values),
        "some zeros": values * (number % 3 > 0)[:, None],
    }[kind]


def film(geometry: Geometry, seed: int = 0, change: float = 0.5) -> Signals:
    """Signals of a clip of three scenes; the frames of a scene repeat but for noise, half of the places much alike."""
    draw = torch.Generator().manual_seed(seed)
    frames, patches = int(geometry.frame.max()) + 1, int(geometry.patch.max()) + 1
    scene = torch.arange(frames) * 3 // frames
    values = torch.randn(3, patches, WIDTH, generator=draw) + 2.0 * torch.randn(3, 1, WIDTH, generator=draw)
    noise = change * torch.where(torch.rand(patches, 1, generator=draw) < 0.5, 1.0, 0.2)
    values = values[scene] + noise * torch.randn(frames, patches, WIDTH, generator=draw)
    hidden = values[geometry.frame, geometry.patch]
    return replace(row(geometry, seed=seed), hidden=lambda: hidden)


def row(
    geometry: Geometry,
    kind: str = "random",
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    source: str = "cls",
    size: Tensor | None = None,
) -> Signals:
    """A prompt row whose states, keys and saliency are of one kind; attention sums to 1 over each picture."""
    count = len(geometry)
    hidden = content(kind, count, seed=seed).to(dtype)
    keys = {layer: content(kind, count, KEY_WIDTH, seed + 7 * layer + 30).to(dtype) for layer in (-1, -2)}
    features = content(kind, count, seed=seed + 60).to(dtype)
    scores = {layer: _saliency(geometry, kind, seed + layer + 90) for layer in (-1, -2)}
    vision = VisionSignals(source, lambda layer, headless: scores[layer], lambda layer: keys[layer], lambda: features)
    return make_signals(geometry, hidden, before(0), vision=vision, size=size)


def _saliency(geometry: Geometry, kind: str, seed: int) -> Tensor:
    logits = content("equal" if kind in ("equal", "zeros") else "random", len(geometry), 1, seed).flatten()
    score = torch.zeros(len(geometry))
    for group in frame_groups(geometry):
        score[group] = logits[group].softmax(0)
    return score


def wanted(keep: float | int, total: int) -> int:
    """The count every one of these methods declares."""
    return min(total, max(1, round(keep * total) if isinstance(keep, float) else keep))


def assert_contract(method: Method, identity: Method) -> None:
    """Pure and repeatable; clips apart; newlines follow their rows; nothing changed where nothing should be."""
    for kind in CONTENTS:
        for geometry in LAYOUTS.values():
            signals = row(geometry, kind, dtype=torch.bfloat16)
            assert torch.equal(plan_of(identity, signals).apply(signals.hidden()), signals.hidden())
    _assert_pure(method)
    _assert_clips_apart(method)
    _assert_newlines_follow(method)


def _assert_pure(method: Method) -> None:
    signals = row(LAYOUTS["clip"])
    given = [signals.hidden(), signals.vision().saliency(-2, False), signals.vision().keys(-2)]
    copies = [tensor.clone() for tensor in (*given, signals.vision().features())]
    first, second = plan_of(method, signals), plan_of(method, signals)
    assert torch.equal(first.apply(given[0]), second.apply(given[0]))
    assert first.keep.tolist() == sorted(set(second.keep.tolist()))
    assert all(map(torch.equal, (*given, signals.vision().features()), copies))


def _assert_clips_apart(method: Method) -> None:
    first, second = Geometry.grid(2, 4, 4), Geometry.grid(1, 5, 4)
    signals = row(Geometry.cat([first, second.as_clip(1)]))
    split = torch.arange(len(signals)) < len(first)
    parts = [part.nonzero().flatten() for part in (split, ~split)]
    alone = [plan_of(method, signals.part(part)) for part in parts]
    both = plan_of(method, signals)
    assert both.keep.tolist() == [
        int(part[token]) for part, plan in zip(parts, alone, strict=True) for token in plan.keep
    ]
    values = torch.cat([plan.apply(signals.hidden()[part]) for part, plan in zip(parts, alone, strict=True)])
    torch.testing.assert_close(both.apply(signals.hidden()), values)


def _assert_newlines_follow(method: Method) -> None:
    geometry = Geometry.grid(2, 4, 3, row_newline=True)
    kept = geometry[plan_of(method, row(geometry)).keep]
    patches = kept.kind == PATCH
    rows = [set(zip(kept.frame[of].tolist(), kept.row[of].tolist(), strict=True)) for of in (patches, ~patches)]
    assert rows[0] == rows[1]


def assert_declared(method: Method, family: str, count: Callable[[int], int], by_frame: bool) -> None:
    """A batch answers like its rows; all layers read `count` of the patches of each frame or clip, and newlines."""
    report = in_a_model(method, family).report
    assert report.layout is not None
    expected = 0
    for geometry, _ in report.layout.rows:
        patches = geometry[(geometry.kind == PATCH).nonzero().flatten()]
        group = patches.clip * 1000 + (patches.frame if by_frame else 0)
        expected += sum(count(size) for size in group.unique(return_counts=True)[1].tolist())
        expected += len(geometry) - len(patches)
    assert expected < sum(report.layout.visual_tokens)
    assert [layer.visual_in for layer in report.layers] == [expected] * TINY_LAYERS
