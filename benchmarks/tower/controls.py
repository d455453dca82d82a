"""What reads as many patches without asking the pixels: random units, fewer frames, smaller frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

import framefusion as ff
from benchmarks.tower.trained import MERGE
from framefusion.core.method import Stage
from framefusion.core.ops.pixel_change import Encoding, Look, blended
from framefusion.core.stage import PixelStage


@dataclass(frozen=True)
class Control(ff.PixelDedup):
    """Encodes `count` units of a clip that `mask` names, and restores the others as PixelDedup does."""

    count: int = 0

    def stages(self) -> tuple[Stage, ...]:
        return (PixelStage(self.decide, self.reuse, merge=False, blend=self.blend),)

    def decide(self, frames: Sequence[Tensor], grid: tuple[int, int]) -> Encoding:
        made = Encoding.of(self.mask(len(frames), grid[0] * grid[1]))
        return made if self.blend is False else blended(Look.of(frames, grid), made)

    def mask(self, frames: int, units: int) -> Tensor:
        """(T, U) bool."""
        raise NotImplementedError


class RandomUnits(Control):
    """The first frame, and units drawn from a seed."""

    def mask(self, frames: int, units: int) -> Tensor:
        draw = torch.Generator().manual_seed(5)
        chosen = torch.zeros(frames * units, dtype=torch.bool)
        chosen[:units] = True
        further = max(0, min(self.count, frames * units) - units)
        chosen[units + torch.randperm((frames - 1) * units, generator=draw)[:further]] = True
        return chosen.view(frames, units)


class FewerFrames(Control):
    """Whole frames at even distances."""

    def mask(self, frames: int, units: int) -> Tensor:
        whole = min(frames, max(1, -(-self.count // units)))
        chosen = torch.zeros(frames, units, dtype=torch.bool)
        chosen[(torch.arange(whole) * frames / whole).long()] = True
        return chosen


def smaller_side(side: int, share: float, unit: int) -> int:
    """The smallest side, in whole units, of a frame that has at least this share of the patches."""
    return next(small for small in range(unit, side + 1, unit) if (small / side) ** 2 >= share - 1e-9)


def enlarged(features: Tensor, units: int) -> Tensor:
    """Features (T, units, 4, D) of smaller frames on the grid of `units` units a side, bilinearly."""
    frames, small, patches, width = features.shape
    side = round(small**0.5)
    square = features.view(frames, side, side, MERGE, MERGE, width).permute(0, 5, 1, 3, 2, 4)
    whole = F.interpolate(square.reshape(frames, width, side * MERGE, -1), size=(units * MERGE,) * 2, mode="bilinear")
    cut = whole.view(frames, width, units, MERGE, units, MERGE).permute(0, 2, 4, 3, 5, 1)
    return cut.reshape(frames, units * units, patches, width)
