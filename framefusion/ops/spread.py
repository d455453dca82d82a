"""Positions spread evenly over a range."""

from __future__ import annotations

import torch


def evenly_spaced(count: int, total: int, device: torch.device | str = "cpu") -> torch.Tensor:
    """(count,) ascending, distinct positions in 0..total-1, the first of each of `count` equal stretches."""
    return torch.arange(count, device=device) * total // count
