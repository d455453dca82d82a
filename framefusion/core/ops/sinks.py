"""Places that are attended to in every frame, whatever they show (SToP)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from framefusion.core.layout import PATCH
from framefusion.core.ops.grid import number_of
from framefusion.core.ops.weighted import group_sums

if TYPE_CHECKING:
    from torch import Tensor

    from framefusion.core.layout import Geometry

SHARPNESS = 1.1


def sink_scores(score: Tensor, geometry: Geometry) -> Tensor:
    """(N,) in [0, 1]: how much a place of a clip is attended to over all frames; 0 for pictures and what is no patch.

    score: (N,) attention. The mean over the frames, to the power 1.1, is scaled to 0 for the lowest place of a clip and
    1 for the highest.
    """
    found = torch.zeros(len(score), device=score.device)
    for clip in geometry.clip.unique().tolist():
        inside = ((geometry.clip == clip) & (geometry.kind == PATCH)).nonzero().flatten()
        if len(inside) and bool((geometry.frame[inside] != geometry.frame[inside[0]]).any()):
            place = number_of(geometry.patch[inside])
            lasting = group_sums(score[inside].float(), place) / torch.bincount(place)
            lasting = lasting.clamp(min=0.0) ** SHARPNESS
            spread = (lasting.max() - lasting.min()).clamp(min=torch.finfo(lasting.dtype).tiny)
            found[inside] = ((lasting - lasting.min()) / spread)[place]
    return found


def without_sinks(score: Tensor, geometry: Geometry, weight: float) -> Tensor:
    """(N,) attention less `weight` times the sink scores, in units of the highest attention of each clip."""
    scaled = sink_scores(score, geometry)
    for clip in geometry.clip.unique().tolist():
        inside = geometry.clip == clip
        scaled[inside] *= score[inside].max()
    return score - weight * scaled.to(score.dtype)
