"""ERNIE 4.5 VL: the grid of a video counts frames, its tokens stand for two each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from framefusion.layout import Layout
from framefusion.models.family import Family
from framefusion.models.placeholders import image_token, video_token
from framefusion.models.rules import by_runs, grids, lay_templates, merge_of

if TYPE_CHECKING:
    from torch import Tensor


def layout(config: Any, inputs: Mapping[str, Any], ids: Tensor) -> Layout:
    images, videos = inputs.get("image_grid_thw"), inputs.get("video_grid_thw")
    if images is None and videos is None:
        return by_runs(config, inputs, ids)
    merge, pooled = merge_of(config), config.vision_config.temporal_merge_size
    sources = [(image_token(config), grids(images, merge)), (video_token(config), grids(videos, merge, pooled))]
    return lay_templates(ids, sources)


ERNIE_4_5_VL_MOE = Family("ernie4_5_vl_moe", layout)
