"""LLaVA-NeXT, LLaVA-NeXT-Video and LLaVA-OneVision: frames of one fixed, pooled size, and pictures cut into tiles."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import ceil
from typing import TYPE_CHECKING, Any

from framefusion.core.layout import Geometry, Layout
from framefusion.models.anyres import anyres_images, tower_side
from framefusion.models.family import Family
from framefusion.models.layout_rules import flat_frames, lay_templates, run_lengths
from framefusion.models.placeholders import image_token, video_token

if TYPE_CHECKING:
    from torch import Tensor


def _videos(ids: Tensor, token: int | None, pixels: Any, per_frame: int, newline: bool) -> Iterator[Geometry]:
    """One template per video, closed by a newline token where the family has one.

    pixels: (videos, frames, ...), None where they are unknown; then every run of placeholders is a video.
    """
    lengths = list(run_lengths(ids, token))
    if pixels is not None and sum(lengths) == len(pixels) * (pixels.shape[1] * per_frame + int(newline)):
        lengths = [pixels.shape[1] * per_frame + int(newline)] * len(pixels)
    for length in lengths:
        frames = length // per_frame
        whole = flat_frames(max(1, frames), per_frame if frames else length)
        if newline and length == len(whole) + 1:
            whole = Geometry.cat([whole, Geometry.newline(frames - 1, per_frame)])
        yield whole


def onevision_images(config: Any, inputs: Mapping[str, Any], ids: Tensor) -> Iterator[Geometry]:
    """Pictures of LLaVA-OneVision and its kin: tiles above a number of patches are resized."""
    most = str(getattr(config, "vision_aspect_ratio", None)).rpartition("_")[2]
    return anyres_images(
        config, inputs.get("image_sizes"), ids, image_token(config), int(most) if most.isdigit() else 9
    )


def onevision(config: Any, inputs: Mapping[str, Any], ids: Tensor) -> Layout:
    video, pooled = video_token(config), ceil(tower_side(config) / 2) ** 2
    videos = _videos(ids, video, inputs.get("pixel_values_videos"), pooled, newline=True)
    return lay_templates(ids, [(image_token(config), onevision_images(config, inputs, ids)), (video, videos)])


def next_video(config: Any, inputs: Mapping[str, Any], ids: Tensor) -> Layout:
    side = tower_side(config)
    video, image = video_token(config), image_token(config)
    pooled = (side // config.spatial_pool_stride) ** 2
    images = anyres_images(config, inputs.get("image_sizes"), ids, image)
    videos = _videos(ids, video, inputs.get("pixel_values_videos"), pooled, newline=False)
    return lay_templates(ids, [(image, images), (video, videos)])


def next_images(config: Any, inputs: Mapping[str, Any], ids: Tensor) -> Layout:
    image = image_token(config)
    return lay_templates(ids, [(image, anyres_images(config, inputs.get("image_sizes"), ids, image))])


LLAVA_ONEVISION = Family("llava_onevision", onevision)
LLAVA_NEXT_VIDEO = Family("llava_next_video", next_video)
LLAVA_NEXT = Family("llava_next", next_images, video_as_images=True)
GRANITE4_VISION = Family("granite4_vision", next_images, video_as_images=True)
