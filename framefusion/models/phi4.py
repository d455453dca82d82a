"""Phi-4 multimodal: the tiles of a picture as one grid, a mark, then the whole picture; every row ends in a newline."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from framefusion.core.layout import Geometry, Layout
from framefusion.models.family import Family
from framefusion.models.layout_rules import by_runs, lay_templates
from framefusion.models.placeholders import image_token
from framefusion.models.runs import run_lengths

if TYPE_CHECKING:
    from torch import Tensor


def _pictures(config: Any, sizes: Tensor, masks: Tensor | None) -> Iterator[Geometry]:
    """sizes: (n, 2) in pixels, of whole tiles. masks: (n, 1 + tiles, P, P) patches that are no padding."""
    vision = config.vision_config
    side = -(-(vision.image_size // vision.patch_size) // 2)  # squares of two by two patches are pooled
    for number, (height, width) in enumerate(sizes.reshape(-1, 2).tolist()):
        down, across = height // vision.crop_size, width // vision.crop_size
        rows, columns = down * side, across * side
        if masks is not None:
            tiles = masks[number, 1 : down * across + 1, ::2, ::2].reshape(down, across, side, side)
            rows, columns = int(tiles[:, 0, :, 0].sum()), int(tiles[0, :, 0, :].sum())
        yield Geometry.stacked(
            [
                Geometry.grid(1, rows, columns, row_newline=True),
                Geometry.mark(),
                Geometry.grid(1, side, side, row_newline=True),
            ]
        )


def layout(config: Any, inputs: Mapping[str, Any], ids: Tensor) -> Layout:
    sizes, token = inputs.get("image_sizes"), image_token(config)
    if sizes is None:
        return by_runs(config, inputs, ids)
    templates = list(_pictures(config, sizes, inputs.get("image_attention_mask")))
    if sum(map(len, templates)) < sum(run_lengths(ids, token)):
        return by_runs(config, inputs, ids)
    return lay_templates(ids, [(token, iter(templates))])


PHI4_MULTIMODAL = Family("phi4_multimodal", layout)
