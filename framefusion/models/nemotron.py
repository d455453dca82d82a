"""Nemotron 3 Omni: pictures with the grid of their patches, videos as tubelets of one size; a prompt holds one kind."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from framefusion.core.layout import Geometry, Layout
from framefusion.models.family import Family
from framefusion.models.layout_rules import by_runs, lay_templates
from framefusion.models.placeholders import image_token

if TYPE_CHECKING:
    from torch import Tensor


def layout(config: Any, inputs: Mapping[str, Any], ids: Tensor) -> Layout:
    sizes, clips = inputs.get("image_grid_hw"), inputs.get("pixel_values_videos")
    merge = round(1 / config.downsample_ratio)
    if sizes is not None:
        templates = [Geometry.grid(1, height // merge, width // merge) for height, width in sizes.tolist()]
    elif clips is not None and clips.ndim == 5:
        side = config.vision_config.patch_size * merge
        templates = [Geometry.grid(clips.shape[1], clips.shape[3] // side, clips.shape[4] // side)] * len(clips)
    else:
        return by_runs(config, inputs, ids)
    return lay_templates(ids, [(image_token(config), iter(templates))])


NEMOTRON_H_OMNI = Family("nemotron_h_omni", layout)
