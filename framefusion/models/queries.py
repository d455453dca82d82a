"""Families that read every picture with learned queries: its tokens lie on no grid."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from framefusion.layout import Geometry, Layout
from framefusion.models.family import Family
from framefusion.models.rules import by_runs

if TYPE_CHECKING:
    from torch import Tensor


def layout(config: Any, inputs: Mapping[str, Any], ids: Tensor) -> Layout:
    return by_runs(config, inputs, ids, lambda count: Geometry.flat(1, count))


ARIA = Family("aria", layout)
BLIP_2 = Family("blip-2", layout)
IDEFICS2 = Family("idefics2", layout)
INSTRUCTBLIP = Family("instructblip", layout)
DEEPSEEK_OCR2 = Family("deepseek_ocr2", layout)
