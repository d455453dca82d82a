"""Qwen-VL and its kin: every video and image comes with a grid (time, height, width) of patches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from framefusion.core.layout import Layout
from framefusion.models.family import Family
from framefusion.models.layout_rules import by_runs, grids, lay_templates, merge_of
from framefusion.models.placeholders import image_token, video_token

if TYPE_CHECKING:
    from torch import Tensor


def layout(config: Any, inputs: Mapping[str, Any], ids: Tensor) -> Layout:
    """Videos and images with their grids; time stamps between frames (Qwen3-VL) are text and stay where they are.

    The grid of a video of ERNIE 4.5 VL counts frames, its tokens stand for several each.
    """
    images, videos = inputs.get("image_grid_thw"), inputs.get("video_grid_thw")
    if images is None and videos is None:
        return by_runs(config, inputs, ids)
    merge, pooled = merge_of(config), getattr(config.vision_config, "temporal_merge_size", 1)
    sources = [(image_token(config), grids(images, merge)), (video_token(config), grids(videos, merge, pooled))]
    return lay_templates(ids, sources)


QWEN2_VL = Family("qwen2_vl", layout, similarity_lower_bound=0.5, published_query_rows=4)
QWEN2_5_VL = Family("qwen2_5_vl", layout, published_query_rows=4)
ERNIE_4_5_VL_MOE = Family("ernie4_5_vl_moe", layout)
QWEN3_VL = Family("qwen3_vl", layout, published_query_rows=4)
QWEN3_VL_MOE = Family("qwen3_vl_moe", layout, published_query_rows=4)
QWEN3_5 = Family("qwen3_5", layout, published_query_rows=4)
QWEN3_5_MOE = Family("qwen3_5_moe", layout, published_query_rows=4)
# Sound between or inside a clip has placeholders of its own, which are text to a method.
QWEN2_5_OMNI = Family("qwen2_5_omni_thinker", layout, published_query_rows=4)
QWEN3_OMNI_MOE = Family("qwen3_omni_moe_thinker", layout, published_query_rows=4)
