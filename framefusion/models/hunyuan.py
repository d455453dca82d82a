"""HunYuan-VL and Emu 3: rows of patches that each end in a newline; HunYuan's pictures stand between two marks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from framefusion.core.layout import Geometry, Layout
from framefusion.models.family import Family
from framefusion.models.layout_rules import by_runs, lay_templates, merge_of
from framefusion.models.placeholders import image_token
from framefusion.models.runs import run_lengths

if TYPE_CHECKING:
    from torch import Tensor


def hunyuan(config: Any, inputs: Mapping[str, Any], ids: Tensor) -> Layout:
    sizes, merge = inputs.get("image_grid_thw"), merge_of(config)
    grids = [] if sizes is None else [_rows(height, width, merge) for _, height, width in sizes.tolist()]
    marked = [Geometry.stacked([Geometry.mark(), grid, Geometry.mark()]) for grid in grids]
    return _lay(config, inputs, ids, marked)  # a checkpoint without marks is read by its runs


def emu3(config: Any, inputs: Mapping[str, Any], ids: Tensor) -> Layout:
    sizes, cell = inputs.get("image_sizes"), 2 ** (len(config.vq_config.channel_multiplier) - 1)
    grids = [] if sizes is None else [_rows(height, width, cell) for height, width in sizes.tolist()]
    return _lay(config, inputs, ids, grids)


def _rows(height: int, width: int, cell: int) -> Geometry:
    return Geometry.grid(1, height // cell, width // cell, row_newline=True)


def _lay(config: Any, inputs: Mapping[str, Any], ids: Tensor, pictures: Sequence[Geometry]) -> Layout:
    token = image_token(config)
    if not pictures or sum(map(len, pictures)) < sum(run_lengths(ids, token)):
        return by_runs(config, inputs, ids)
    return lay_templates(ids, [(token, iter(pictures))])


HUNYUAN_VL = Family("hunyuan_vl", hunyuan)
EMU3 = Family("emu3", emu3)
