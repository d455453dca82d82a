"""Families whose processor stacks the frames of a video in one tensor, (videos, frames, channels, height, width)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import torch

from framefusion.core.layout import MARKER, Geometry, Layout
from framefusion.models.family import Family
from framefusion.models.layout_rules import flat_frames, lay_templates
from framefusion.models.placeholders import image_token, video_token
from framefusion.models.runs import run_lengths

if TYPE_CHECKING:
    from torch import Tensor


def equal_parts(
    ids: Tensor, token: int | None, pixels: Any, make: Callable[[int, int], Geometry]
) -> Iterator[Geometry]:
    """One template per entry of `pixels`, which share the placeholders evenly; per run without pixels.

    make: (frames, tokens) -> template.
    """
    lengths = list(run_lengths(ids, token))
    if not lengths:
        return  # pixels of the other kind
    if pixels is None or not len(pixels) or sum(lengths) % len(pixels):
        yield from (make(1, length) for length in lengths)
        return
    each = sum(lengths) // len(pixels)
    parts = pixels.shape[1] if pixels.ndim == 5 and each % pixels.shape[1] == 0 else 1
    yield from (make(parts, each) for _ in range(len(pixels)))


def frames(parts: int, tokens: int) -> Geometry:
    return flat_frames(parts, tokens // parts)


def with_class_token(parts: int, tokens: int) -> Geometry:
    """Frames that each begin with a class token, which lies on no cell."""
    whole = Geometry.flat(parts, tokens // parts)
    grid = flat_frames(parts, tokens // parts - 1)
    first = whole.patch == 0
    row = torch.full_like(whole.row, -1).masked_scatter(~first, grid.row)
    column = torch.full_like(whole.row, -1).masked_scatter(~first, grid.column)
    return Geometry(torch.where(first, MARKER, whole.kind), whole.clip, whole.frame, row, column, whole.patch)


def queries(parts: int, tokens: int) -> Geometry:
    return Geometry.flat(parts, tokens // parts)


def _rule(
    of_picture: Callable[[int, int], Geometry],
    of_video: Callable[[int, int], Geometry],
    pictures: str = "pixel_values",
    videos: str = "pixel_values_videos",
    tiled: bool = False,
) -> Any:
    """pictures, videos: names of their pixels among the inputs. tiled: pictures are stacked by tile, not by frame."""

    def layout(config: Any, inputs: Mapping[str, Any], ids: Tensor) -> Layout:
        image, video = image_token(config), video_token(config)
        pixels = inputs.get(pictures)
        pixels = pixels.flatten(0, 1) if tiled and pixels is not None and pixels.ndim == 5 else pixels
        stills = equal_parts(ids, image, pixels, of_picture)
        clips = equal_parts(ids, video, inputs.get(videos), of_video)
        return lay_templates(ids, [(image, stills), (video, clips)])

    return layout


PERCEPTION_LM = Family("perception_lm", _rule(frames, frames, tiled=True))
VIDEO_LLAVA = Family("video_llava", _rule(frames, with_class_token, pictures="pixel_values_images"))
INSTRUCTBLIP_VIDEO = Family("instructblipvideo", _rule(queries, queries, videos="pixel_values"))
