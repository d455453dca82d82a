"""LLaVA-OneVision and LLaVA-NeXT-Video: frames of one fixed, pooled size, and pictures cut into tiles."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import ceil
from typing import TYPE_CHECKING, Any

from framefusion.layout import Geometry, Layout
from framefusion.models.family import Family
from framefusion.models.placeholders import image_token, video_token
from framefusion.models.rules import flat_frames, lay_templates

if TYPE_CHECKING:
    from torch import Tensor


def _tower_side(config: Any) -> int:
    return config.vision_config.image_size // config.vision_config.patch_size


def _run_lengths(ids: Tensor, token: int | None) -> Iterator[int]:
    for row in ids.tolist():
        length = 0
        for value in [*row, None]:
            if value == token and token is not None:
                length += 1
            elif length:
                yield length
                length = 0


def _videos(ids: Tensor, token: int | None, per_frame: int, newline: bool) -> Iterator[Geometry]:
    """One template per run of video placeholders, closed by a newline token where the family has one."""
    for length in _run_lengths(ids, token):
        frames = length // per_frame
        whole = flat_frames(max(1, frames), per_frame if frames else length)
        if newline and length == len(whole) + 1:
            whole = Geometry.cat([whole, Geometry.newline(frames - 1, per_frame)])
        yield whole


def _images(ids: Tensor, token: int | None, side: int) -> Iterator[Geometry]:
    """A base picture of `side` x `side` patches, then the tiles' patches with their row newlines as a second frame.

    One of several pictures in a prompt is not cut into tiles; a newline closes it.
    """
    for length in _run_lengths(ids, token):
        base = side * side
        if length < base:
            yield flat_frames(1, length)
            continue
        if length == base + 1:
            yield Geometry.cat([Geometry.grid(1, side, side), Geometry.newline(0, base)])
            continue
        rest = flat_frames(1, length - base).as_clip(0, first_frame=1) if length > base else Geometry.empty()
        yield Geometry.cat([Geometry.grid(1, side, side), rest])


def onevision(config: Any, inputs: Mapping[str, Any], ids: Tensor) -> Layout:
    side = _tower_side(config)
    video, image = video_token(config), image_token(config)
    pooled = ceil(side / 2) ** 2
    return lay_templates(ids, [(image, _images(ids, image, side)), (video, _videos(ids, video, pooled, newline=True))])


def next_video(config: Any, inputs: Mapping[str, Any], ids: Tensor) -> Layout:
    side = _tower_side(config)
    video, image = video_token(config), image_token(config)
    pooled = (side // config.spatial_pool_stride) ** 2
    return lay_templates(ids, [(image, _images(ids, image, side)), (video, _videos(ids, video, pooled, newline=False))])


LLAVA_ONEVISION = Family("llava_onevision", onevision)
LLAVA_NEXT_VIDEO = Family("llava_next_video", next_video)
