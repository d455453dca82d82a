"""Kimi K2.5 and MiniMax M3: a video comes as several grid rows, one for every few frames of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from framefusion.core.layout import Geometry, Layout
from framefusion.models.family import Family
from framefusion.models.layout_rules import by_runs, grids, latest, lay_templates, merge_of
from framefusion.models.placeholders import image_token, video_token
from framefusion.models.runs import Run, runs_of
from framefusion.models.stamps import HOURS, SECONDS, Stamp

if TYPE_CHECKING:
    from torch import Tensor


def _videos(sizes: Tensor, templates: list[Geometry], runs: Iterator[Run], stamp: Stamp) -> Iterator[Geometry]:
    """One template per video. templates: of every grid row, whose frames are runs of their own."""
    clip: list[Geometry] = []
    first: tuple[int, ...] = ()
    before = [0, 0, 0]
    for size, template in zip(sizes.tolist(), templates, strict=True):
        opening = next(runs).opening
        for _ in range(int(template.frame.max())):
            next(runs)
        # A chunk with fewer frames than the next one was the last of its video.
        joins = clip and size[1:] == before[1:] and size[0] <= before[0] and stamp.follows(first, opening)
        if not joins:
            if clip:
                yield Geometry.following(clip)
            clip, first = [], opening
        clip, before = [*clip, template], size
    if clip:
        yield Geometry.following(clip)


def _layout(config: Any, inputs: Mapping[str, Any], ids: Tensor, stamp: Stamp, pooled: int) -> Layout:
    images, videos = inputs.get("image_grid_thw"), inputs.get("video_grid_thw")
    if images is None and videos is None:
        return by_runs(config, inputs, ids)
    merge, video = merge_of(config), video_token(config)
    sources = [(image_token(config), grids(images, merge))]
    if videos is not None:
        runs = [run for row in ids.cpu() for run in runs_of(row, [video])]
        chunks = latest(list(grids(videos, merge, pooled)), sum(map(len, runs)), len(ids))
        sources.append((video, _videos(videos[len(videos) - len(chunks) :], chunks, iter(runs), stamp)))
    return lay_templates(ids, sources)


def kimi(config: Any, inputs: Mapping[str, Any], ids: Tensor) -> Layout:
    """The frames of a chunk are averaged: one grid of tokens each."""
    return _layout(config, inputs, ids, HOURS, pooled=1 << 30)


def minimax(config: Any, inputs: Mapping[str, Any], ids: Tensor) -> Layout:
    return _layout(config, inputs, ids, SECONDS, pooled=1)


KIMI_K25 = Family("kimi_k25", kimi)
MINIMAX_M3_VL = Family("minimax_m3_vl", minimax)
