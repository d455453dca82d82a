"""The numbers of a tensor as they lie in memory, for digests of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor


def raw_bytes(value: Tensor) -> bytes:
    """Row by row, in the tensor's own type, wherever it lies."""
    return value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
