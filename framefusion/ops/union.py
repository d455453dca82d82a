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


def united_until_settled(nodes: int, one: Tensor, other: Tensor) -> Tensor:
    """As `united`, but ends as soon as every label is that of a node which has its own, as STTM's code does.

    Labels pass along all edges at once, and then each node takes the label of the node its label names. Ends that only
    a third node connects may keep labels of their own.
    """
    label = torch.arange(nodes, device=one.device)
    while True:
        low = torch.minimum(label[one], label[other])
        label = label.scatter_reduce(0, one, low, "amin").scatter_reduce(0, other, low, "amin")
        label = label[label]
        if torch.equal(label[label], label):
            return label
