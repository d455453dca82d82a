"""The most similar of a few tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING

from framefusion.ops.pick import SLACK

if TYPE_CHECKING:
    from torch import Tensor


def nearest(unit: Tensor, targets: Tensor) -> Tensor:
    """(n,) index of the (m, D) target of highest cosine for each of the (n, D) rows; the first one among equals.

    Rows and targets are float32 and of length one or zero.
    """
    cosine = unit @ targets.T
    return (cosine >= cosine.amax(1, keepdim=True) - SLACK).int().argmax(1)
