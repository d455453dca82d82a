"""Visual tokens frame by frame."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

    from framefusion.layout import Geometry


def frame_numbers(geometry: Geometry) -> Tensor:
    """(N,) number of the frame each token belongs to, counted through all clips in prompt order from 0."""
    span = int(geometry.frame.max()) + 1 if len(geometry) else 1
    return torch.unique(geometry.clip * span + geometry.frame, return_inverse=True)[1]


def frame_groups(geometry: Geometry) -> list[Tensor]:
    """Indices of the tokens of each frame, in prompt order."""
    number = frame_numbers(geometry)
    return [(number == frame).nonzero().flatten() for frame in range(int(number.max()) + 1)] if len(geometry) else []
