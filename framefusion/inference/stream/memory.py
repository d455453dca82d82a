"""What a stream remembers: keys and values of every layer, and where and when each entry was."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch

from framefusion.inference.stream.policies.policy import Entries

if TYPE_CHECKING:
    from torch import Tensor

    from framefusion.inference.stream.policies.policy import Kept, Policy

FRAME, PLACE, POSITION = 0, 1, 2
"""Columns of `LayerMemory.about`; positions of all planes are the last ones."""


@dataclass(frozen=True, eq=False)
class LayerMemory:
    """S entries of one attention layer. Its tensors are never written to.

    keys: (H, S, d), rotated. values: (H, S, d'). about: (h, S, 2 + P) int32 frame, place and positions, h being 1 as
    long as all heads hold the same tokens. size: (S,) float32 tokens an entry counts for, None where each is one.
    """

    keys: Tensor
    values: Tensor
    about: Tensor
    size: Tensor | None = None

    @property
    def count(self) -> int:
        return self.keys.shape[1]

    @property
    def bytes(self) -> int:
        kept = [tensor for tensor in (self.keys, self.values, self.about, self.size) if tensor is not None]
        return sum(tensor.numel() * tensor.element_size() for tensor in kept)

    def entries(self, protected: int, scores: Tensor | None = None) -> Entries:
        frame, place, position = self.about[..., FRAME], self.about[..., PLACE], self.about[..., POSITION:]
        return Entries(self.keys, self.values, frame, place, position, protected, scores)

    def append(self, other: LayerMemory) -> LayerMemory:
        """The same entries and newer ones behind them."""
        mine, theirs = self.about, other.about
        heads = max(mine.shape[0], theirs.shape[0])
        about = torch.cat([mine.expand(heads, -1, -1), theirs.expand(heads, -1, -1)], 1)
        size = None
        if self.size is not None or other.size is not None:
            size = torch.cat([self.sizes(), other.sizes()])
        return LayerMemory(
            torch.cat([self.keys, other.keys], 1), torch.cat([self.values, other.values], 1), about, size
        )

    def sizes(self) -> Tensor:
        return torch.ones(self.count, device=self.keys.device) if self.size is None else self.size

    def pick(self, index: Tensor) -> LayerMemory:
        """The entries at (h, K), of every head its own where h is the number of heads."""
        if index.shape[0] == 1 and index.shape[1] == self.count:
            return self
        heads = max(index.shape[0], self.about.shape[0])
        about = _rows(self.about.expand(heads, -1, -1), index)
        size = None if self.size is None else self.size[index].mean(0)
        return LayerMemory(_rows(self.keys, index), _rows(self.values, index), about, size)


def _rows(tensor: Tensor, index: Tensor) -> Tensor:
    """(H, S, d) at (h, K) -> (H, K, d)."""
    if index.shape[0] == 1:
        return tensor.index_select(1, index[0])
    return tensor.gather(1, index[..., None].expand(-1, -1, tensor.shape[-1]))


@dataclass(frozen=True, eq=False)
class Memory:
    """All layers of one stream: those with attention by number, and the states of recurrent ones.

    protected: entries in front that stay whatever the policy. states: by layer, what its cache layer holds.
    """

    layers: dict[int, LayerMemory]
    states: dict[int, dict[str, Any]]
    protected: int = 0

    @property
    def bytes(self) -> int:
        return sum(layer.bytes for layer in self.layers.values()) + self.bytes_of_states

    @property
    def bytes_of_states(self) -> int:
        """Of recurrent layers, which keep what they keep."""
        return sum(_bytes(state) for state in self.states.values())

    @property
    def count(self) -> int:
        """Entries of the layer that holds most."""
        return max((layer.count for layer in self.layers.values()), default=0)

    def compressed(self, policy: Policy, budget: int, scores: Sequence[Tensor] | None = None) -> Memory:
        """What `policy` leaves of it."""
        if not self.layers:
            return self
        given = scores or [None] * len(self.layers)
        entries = [layer.entries(self.protected, own) for layer, own in zip(self.layers.values(), given, strict=True)]
        kept: list[Kept] = policy.compress(entries, budget)
        picked = {
            number: layer.pick(stays.index) for (number, layer), stays in zip(self.layers.items(), kept, strict=True)
        }
        return replace(self, layers=picked)


def _bytes(value: Any) -> int:
    if isinstance(value, torch.Tensor):
        return value.numel() * value.element_size()
    return sum(map(_bytes, value.values())) if isinstance(value, dict) else 0
