"""Bring back rows that were taken out: the state they had then, and what has become of their neighbours since."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Gone:
    """Of N rows of which K stayed.

    keep: (K,) those that stayed, ascending. left: (G,) the others. states: (N, D) all of them, when they parted.
    neighbours: (G, n) numbers among the K, nearest first.
    """

    keep: Tensor
    left: Tensor
    states: Tensor
    neighbours: Tensor

    @staticmethod
    def of(states: Tensor, keep: Tensor, neighbours: int) -> Gone:
        """The rows of `states` (N, D) outside of `keep` (K,), each with its `neighbours` nearest in it (or all K)."""
        away = torch.ones(states.shape[0], dtype=torch.bool, device=states.device)
        away[keep] = False
        left = away.nonzero().flatten()
        distance = torch.cdist(states[left].float()[None], states[keep].float()[None])[0]
        count = min(neighbours, keep.numel())
        return Gone(keep, left, states, distance.topk(count, largest=False, sorted=True).indices)

    @staticmethod
    def joined(parts: Sequence[Gone]) -> Gone:
        """Of several pictures one behind the other. Where they have unlike numbers of neighbours, the fewest count."""
        count = min((part.neighbours.shape[1] for part in parts if part.left.numel()), default=1)
        keep, left, neighbours = [], [], []
        rows = slots = 0
        for part in parts:
            keep.append(part.keep + rows)
            left.append(part.left + rows)
            neighbours.append(part.neighbours[:, :count] + slots)
            rows, slots = rows + part.states.shape[0], slots + part.keep.numel()
        states = torch.cat([part.states for part in parts])
        return Gone(torch.cat(keep), torch.cat(left), states, torch.cat(neighbours))

    @property
    def nearest(self) -> Tensor:
        """(N,) number among the K of each row's nearest, its own where it stayed."""
        found = self.left.new_empty(self.states.shape[0])
        found[self.keep] = torch.arange(self.keep.numel(), device=found.device)
        found[self.left] = self.neighbours[:, 0]
        return found

    def restored(self, values: Tensor) -> Tensor:
        """What the K rows have become, (K, D), -> of all N: the others changed as their neighbours did, on average."""
        change = values - self.states[self.keep]
        mean = torch.zeros(self.left.numel(), values.shape[1], device=values.device)
        for neighbour in self.neighbours.unbind(1):  # all at once would be n times the states of the tower
            mean += change.index_select(0, neighbour)
        whole = values.new_empty(self.states.shape)
        whole[self.keep] = values
        whole[self.left] = self.states[self.left] + (mean / self.neighbours.shape[1]).to(values)
        return whole
