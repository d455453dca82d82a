"""Blocks of a frame's grid that split in four, from single cells up."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

COARSEST = 2
"""Cells along the shorter side from which a grid is not halved any more."""


def block_levels(row: Tensor, column: Tensor, root: int) -> list[tuple[Tensor, Tensor]]:
    """(N,) row and column of the block each cell lies in, per level; level 0 are the cells themselves.

    Each level joins two by two blocks of the one below. An odd side leaves its first block alone, so a block at the
    border may have two parts or one. root: how many levels below the coarsest grid to stop.
    """
    levels = [(row, column)]
    sides = [int(part.max()) + 1 if part.numel() else 1 for part in (row, column)]
    while min(sides) > COARSEST:
        row, column = ((part + side % 2) // 2 for part, side in zip((row, column), sides, strict=True))
        sides = [(side + 1) // 2 for side in sides]
        levels.append((row, column))
    return levels[: max(1, len(levels) - root)]


def number_of(*labels: Tensor) -> Tensor:
    """(N,) number from 0 of each distinct combination of the (N,) labels."""
    return torch.unique(torch.stack(labels, 1), dim=0, return_inverse=True)[1]
