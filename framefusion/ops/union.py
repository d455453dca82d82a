"""Connected components from a list of edges."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor


def united(nodes: int, one: Tensor, other: Tensor) -> Tensor:
    """(nodes,) lowest number in the component of each node; one, other: (E,) ends of the edges."""
    label = torch.arange(nodes, device=one.device)
    while True:
        low = torch.minimum(label[one], label[other])
        after = label.clone()
        # The old representatives are lowered too, so that whole components move at once.
        for place in (one, other, label[one], label[other]):
            after.scatter_reduce_(0, place, low, "amin")
        after = after[after]
        if torch.equal(after, label):
            return label
        label = after
