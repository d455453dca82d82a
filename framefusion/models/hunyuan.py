"""HunYuan-VL: a picture is a mark, rows of patches that each end in a newline, and a mark."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from framefusion.layout import Geometry, Layout
from framefusion.models.family import Family
from framefusion.models.placeholders import image_token
from framefusion.models.rules import by_runs, lay_templates, merge_of
from framefusion.models.runs import run_lengths

if TYPE_CHECKING:
    from torch import Tensor


def _pictures(sizes: Tensor, merge: int) -> Iterator[Geometry]:
    for _, height, width in sizes.tolist():
        grid = Geometry.grid(1, height // merge, width // merge, row_newline=True)
        yield Geometry.stacked([Geometry.mark(), grid, Geometry.mark()])


def layout(config: Any, inputs: Mapping[str, Any], ids: Tensor) -> Layout:
    sizes, token = inputs.get("image_grid_thw"), image_token(config)
    if sizes is None:
        return by_runs(config, inputs, ids)
    templates = list(_pictures(sizes, merge_of(config)))
    if sum(map(len, templates)) < sum(run_lengths(ids, token)):
        return by_runs(config, inputs, ids)  # a checkpoint without marks
    return lay_templates(ids, [(token, iter(templates))])


HUNYUAN_VL = Family("hunyuan_vl", layout)
