"""Kosmos-2 and Kosmos-2.5: a mask that comes with the prompt says where its pictures are; no token id does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from framefusion.layout import Geometry, Layout
from framefusion.models.family import Family
from framefusion.models.rules import lay_runs

if TYPE_CHECKING:
    from torch import Tensor

MASK = "image_embeds_position_mask"


def layout(config: Any, inputs: Mapping[str, Any], ids: Tensor) -> Layout:
    """Every run of marked columns is one picture, read by queries that lie on no grid."""
    mask = inputs.get(MASK)
    marked = ids.new_zeros(ids.shape) if mask is None or mask.shape != ids.shape else mask.to(ids)
    return lay_runs(marked, [1], lambda count: Geometry.flat(1, count))


KOSMOS_2 = Family("kosmos-2", layout)
KOSMOS_2_5 = Family("kosmos-2.5", layout)
