"""Families that read every picture with learned queries: its tokens lie on no grid."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from framefusion.core.layout import Geometry, Layout
from framefusion.models.family import Family
from framefusion.models.layout_rules import by_runs, lay_runs

if TYPE_CHECKING:
    from torch import Tensor

MASK = "image_embeds_position_mask"


def layout(config: Any, inputs: Mapping[str, Any], ids: Tensor) -> Layout:
    return by_runs(config, inputs, ids, _queries)


def marked(config: Any, inputs: Mapping[str, Any], ids: Tensor) -> Layout:
    """A mask that comes with the prompt says where its pictures are; no token id does."""
    mask = inputs.get(MASK)
    marks = ids.new_zeros(ids.shape) if mask is None or mask.shape != ids.shape else mask.to(ids)
    return lay_runs(marks, [1], _queries)


def _queries(count: int) -> Geometry:
    return Geometry.flat(1, count)


ARIA = Family("aria", layout)
BLIP_2 = Family("blip-2", layout)
IDEFICS2 = Family("idefics2", layout)
INSTRUCTBLIP = Family("instructblip", layout)
DEEPSEEK_OCR2 = Family("deepseek_ocr2", layout)
KOSMOS_2 = Family("kosmos-2", marked)
KOSMOS_2_5 = Family("kosmos-2.5", marked)
