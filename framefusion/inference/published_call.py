"""The published call, kept for people who come from the paper."""

from __future__ import annotations

from typing import TYPE_CHECKING

from framefusion.inference.reduction import Reduction, reduce_clips
from framefusion.methods.framefusion import FrameFusion

if TYPE_CHECKING:
    from torch import nn


def apply_framefusion(
    model: nn.Module,
    cost: float = 0.3,
    similarity_lower_bound: float | None = None,
    ratio_lower_bound: float = 0.1,
    *,
    strict: bool = False,
) -> Reduction:
    """Apply FrameFusion to `model`; `.remove()` on the result undoes it.

    Its prompts show clips: of a family without video input, neighbouring pictures of one size are frames. The options
    are those of `framefusion.FrameFusion`; `strict=True` reproduces the published code to the letter.
    """
    return reduce_clips(model, FrameFusion(cost, similarity_lower_bound, ratio_lower_bound, strict=strict))
