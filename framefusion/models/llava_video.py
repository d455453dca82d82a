"""LLaVA-Video: pooled frames whose rows end in a newline token, and pictures as in LLaVA-OneVision."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from framefusion.core.errors import LayoutError
from framefusion.core.layout import Geometry, Layout
from framefusion.models.family import Family
from framefusion.models.layout_rules import lay_templates, run_lengths
from framefusion.models.llava import onevision_images
from framefusion.models.placeholders import image_token, video_token

if TYPE_CHECKING:
    from torch import Tensor


def _videos(ids: Tensor, token: int | None, side: int) -> Iterator[Geometry]:
    """One template per run of video placeholders: frames of `side` rows with a newline after each."""
    per_frame = side * (side + 1)
    for length in run_lengths(ids, token):
        if length % per_frame:
            raise LayoutError(
                f"a video of {length} tokens has no whole number of frames",
                f"a frame of this model has {per_frame} tokens: {side} rows of {side} and their newlines",
                "pass the processor's outputs together and uncut",
            )
        yield Geometry.grid(length // per_frame, side, side, row_newline=True)


def layout(config: Any, inputs: Mapping[str, Any], ids: Tensor) -> Layout:
    image, video = image_token(config), video_token(config)
    images = onevision_images(config, inputs, ids)
    return lay_templates(ids, [(image, images), (video, _videos(ids, video, config.pooled_side))])


LLAVA_VIDEO = Family("llava_qwen", layout, similarity_lower_bound=0.6)
