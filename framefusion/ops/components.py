"""Connected components of the graph that joins similar vectors."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

ROWS = 1024
"""Rows of a similarity matrix held at once in float32."""


def similar_pairs(unit: Tensor, threshold: float) -> Tensor:
    """(N, N) bool, symmetric, True where the cosine of two of the (N, D) unit rows exceeds `threshold`; no loops."""
    rows = [unit[start : start + ROWS] @ unit.T > threshold for start in range(0, len(unit), ROWS)]
    pairs = torch.cat(rows)
    pairs = pairs | pairs.T
    return pairs.fill_diagonal_(False)


def components(pairs: Tensor) -> Tensor:
    """(N,) lowest index of each node's connected component. pairs: (N, N) bool, symmetric."""
    label = torch.arange(len(pairs), device=pairs.device)
    while True:
        low = torch.minimum(label, _lowest_neighbour(pairs, label))
        hooked = label.clone().scatter_reduce_(0, label, low, "amin")
        after = torch.minimum(hooked, low)
        after = after[after]
        if torch.equal(after, label):
            return label
        label = after


def _lowest_neighbour(pairs: Tensor, label: Tensor) -> Tensor:
    rows = [
        torch.where(pairs[start : start + ROWS], label[None, :], len(pairs)).amin(1)
        for start in range(0, len(pairs), ROWS)
    ]
    return torch.cat(rows)
