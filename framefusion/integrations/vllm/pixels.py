"""How much of a clip changes, seen in its pixels: the count must be known before anything is encoded."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

FULL_RANGE = 255.0


def changed_places(frames: Any, grid: tuple[int, int, int], change: float) -> int:
    """Places of the grid that differ from the same place one frame before by at least `change`.

    frames: (T, height, width, 3) uint8, or a sequence of T pictures. grid: frames, rows and columns of visual tokens;
    several frames of the clip may share one of the grid. change: mean absolute difference in (0, 1] of the full range.
    """
    time, rows, columns = grid
    clip = _as_tensor(frames)
    if time < 2 or len(clip) < 2:
        return 0
    difference = torch.stack([(later - earlier).abs().mean(-1) for earlier, later in pairwise(clip)])
    places = F.adaptive_avg_pool3d(difference[None] / FULL_RANGE, (time - 1, rows, columns))
    return int((places >= change).sum())


def _as_tensor(frames: Any) -> torch.Tensor:
    """(T, height, width, channels) float32 on the CPU."""
    if isinstance(frames, torch.Tensor):
        clip = frames
    elif isinstance(frames, Sequence):
        clip = torch.stack([torch.as_tensor(np.asarray(frame)) for frame in frames])
    else:
        clip = torch.as_tensor(np.asarray(frames))
    channels_last = clip if clip.shape[-1] in (1, 3, 4) else clip.movedim(1, -1)
    return channels_last.to(torch.float32)
