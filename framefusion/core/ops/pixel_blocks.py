"""Blocks of a picture that repeat, in their pixels, what an earlier block lets expect: margins, paper, plain surfaces.

The predictor is that of PixelPrune (https://arxiv.org/abs/2604.00886), in its anchored form: a block is compared with
the block that stays in the place of the predicted one, so a slow gradient cannot fade away.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor


def distinct_blocks(blocks: Tensor, grid: tuple[int, int], threshold: float) -> Tensor:
    """(U,) bool, the blocks that stay: the first one, and those whose pixels differ from what is predicted.

    blocks: (U, ...) pixels on [0, 1], in reading order. grid: rows and columns of the U blocks. threshold: largest
    difference of a value that counts as none; at 0 only exact repeats go.
    """
    rows, columns = grid
    pixels = blocks.flatten(1)
    predicted = _predicted(pixels.view(rows, columns, -1), threshold)
    stands = torch.arange(len(pixels))
    if threshold == 0:
        return ~_alike(pixels, pixels[predicted], 0.0) | (stands == 0)
    stays = stands == 0
    for number in range(1, len(pixels)):
        anchor = int(stands[predicted[number]])
        if bool(_alike(pixels[number], pixels[anchor], threshold)):
            stands[number] = anchor
        else:
            stays[number] = True
    return stays


def _predicted(pixels: Tensor, threshold: float) -> Tensor:
    """(U,) the block that predicts each one, of (rows, columns, V) values.

    That is the left one, or the one above where the left one goes on from the row above but the one above does not.
    """
    rows, columns = pixels.shape[:2]
    number = torch.arange(rows * columns).view(rows, columns)
    predicted = number - 1
    predicted[:, 0] = number[:, 0] - columns
    if rows > 1 and columns > 1:
        corner, left, above = pixels[:-1, :-1], pixels[1:, :-1], pixels[:-1, 1:]
        from_above = _alike(corner, left, threshold) & ~_alike(corner, above, threshold)
        predicted[1:, 1:] = torch.where(from_above.cpu(), number[1:, 1:] - columns, predicted[1:, 1:])
    return predicted.flatten().clamp(min=0)


def _alike(one: Tensor, other: Tensor, threshold: float) -> Tensor:
    return (one - other).abs().amax(-1) <= threshold
