"""Which units of a clip are encoded, seen in its pixels: the count must be known before anything is encoded."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from framefusion.core.ops.pixel_blocks import distinct_blocks
from framefusion.core.ops.pixel_change import Encoding
from framefusion.engine.vision.pixels import Units

if TYPE_CHECKING:
    from torch import Tensor

    from framefusion.engine.vision.pixels import UnitGrid
    from framefusion.methods.pixel_dedup import PixelDedup
    from framefusion.models.pixel_range import PixelRange


def encoded_units(pixels: Tensor, grid: UnitGrid, known: PixelRange, rule: PixelDedup) -> Tensor:
    """(T, rows, columns) bool, the units of a clip that are encoded.

    pixels: as the tower is given them, (S, D) rows of patches where grouped, else (T, C, H, W). known: how they were
    normalised.
    """
    frames = len(pixels) // (grid.patches if grid.grouped else 1)
    starts = range(0, frames * grid.patches, grid.patches)
    with torch.no_grad():
        made = rule.decide(Units(pixels, range(frames), starts, grid, known), (grid.rows, grid.columns))
    return made.encoded.view(frames, grid.rows, grid.columns)


def distinct_units(pixels: Tensor, grid: UnitGrid, known: PixelRange, threshold: float) -> Tensor:
    """(parts, rows, columns) bool, the units of a picture, or of each of its tiles, that repeat no earlier one there.

    pixels, known: as of `encoded_units`. threshold: as of `distinct_blocks`.
    """
    parts = len(pixels) // (grid.patches if grid.grouped else 1)
    units = Units(pixels, range(parts), range(0, parts * grid.patches, grid.patches), grid, known)
    size = (grid.rows, grid.columns)
    with torch.no_grad():
        return torch.stack([distinct_blocks(units[part], size, threshold).view(size) for part in range(parts)])


def repeated_within(distinct: Tensor) -> Tensor:
    """(N,) of the units of a picture, itself where it is distinct, else the first one of its part."""
    number = torch.arange(distinct.numel()).view(distinct.shape)
    return torch.where(distinct, number, number[:, :1, :1]).flatten()


def shown_frames(encoded: Tensor) -> Tensor:
    """(T, rows, columns) long, the frame whose encoding each unit shows. encoded: as of `encoded_units`."""
    return Encoding.of(encoded.flatten(1)).shows.view(encoded.shape)


def repeated_tokens(encoded: Tensor, rows: int, columns: int) -> Tensor:
    """(T * rows * columns,) the token that each token of a clip repeats, itself where one of its units is encoded.

    encoded: (T, R, C) bool of units, of which tokens may have fewer.
    """
    frames = shown_frames(encoded).double()
    shown = F.adaptive_max_pool2d(frames, (rows, columns)).long().flatten(1)
    token = (shown * rows * columns + torch.arange(rows * columns)).flatten()
    return token[token]
