"""Optimal transport: how the mass of some tokens spreads over others at least cost."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

BLUR, STEPS = 0.1, 100
SETTLED = 1e-4
"""Share of its mass by which a source may miss what it has to give when the steps end."""


def transport(cost: Tensor) -> Tensor:
    """(S, T) plan that moves one mass, equal over S sources, to T targets that get equal parts (Sinkhorn).

    cost: (S, T), not negative. The plan is that of least cost minus a tenth of its entropy.
    """
    sources, targets = cost.shape
    kernel = torch.exp(-cost.double() / BLUR)
    column = torch.ones(targets, dtype=torch.double, device=cost.device)
    for _ in range(STEPS):
        row = 1.0 / (sources * (kernel @ column))
        column = 1.0 / (targets * (kernel.T @ row))
        missed = (row * (kernel @ column) * sources - 1.0).abs()
        if bool((missed < SETTLED).all()):
            break
    return (row[:, None] * kernel * column[None, :]).to(cost.dtype)
