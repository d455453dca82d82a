"""Grids of patches: blocks that split in four, and a tower's grid brought to the tokens of the language model."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

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


def to_tokens(values: Tensor, count: int, grouped: bool) -> Tensor | None:
    """(P, C) values of a picture's patches -> (count, C) of its tokens; None where the sizes tell no way.

    grouped: the patches of one token stand next to each other (Qwen-VL); otherwise both are square grids in reading
    order, and the patches are resized to the tokens' grid.
    """
    patches = values.shape[0]
    if patches == count:
        return values
    if grouped:
        return values.view(count, patches // count, -1).mean(1) if patches % count == 0 else None
    side, wanted = round(patches**0.5), round(count**0.5)
    if side * side != patches or wanted * wanted != count:
        return None
    picture = values.T.reshape(1, -1, side, side).float()
    if side % wanted == 0:
        resized = F.avg_pool2d(picture, side // wanted)
    else:
        resized = F.interpolate(picture, (wanted, wanted), mode="bilinear")
    return resized.reshape(values.shape[1], count).T.to(values.dtype)
