"""What a stream remembers: keys and values of every layer, and where and when each entry was."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch

from framefusion.inference.stream.policies.policy import Entries

if TYPE_CHECKING:
    from torch import Tensor

    from framefusion.inference.stream.policies.policy import Kept, Policy
    from framefusion.inference.stream.rotary import Rotary

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
    def bytes_per_column(self) -> int:
        """Of keys and values of a column that every layer holds."""
        layers = [layer for layer in self.layers.values() if layer.count]
        return sum(_bytes(layer.keys[:, :1]) + _bytes(layer.values[:, :1]) for layer in layers)

    @property
    def count(self) -> int:
        """Entries of the layer that holds most."""
        return max((layer.count for layer in self.layers.values()), default=0)

    def compressed(
        self, policy: Policy, budget: int, rotary: Rotary, scores: Mapping[int, Tensor] | None = None
    ) -> Memory:
        """What `policy` leaves of it. scores: by layer, what its question pays to each entry."""
        given = scores or {}
        entries = [layer.entries(self.protected, given.get(number)) for number, layer in self.layers.items()]
        kept = zip(self.layers.items(), policy.compress(entries, budget), strict=True)
        layers = {number: self._picked(number, layer, stays, rotary) for (number, layer), stays in kept}
        return replace(self, layers=layers)

    def _picked(self, number: int, layer: LayerMemory, kept: Kept, rotary: Rotary) -> LayerMemory:
        picked = layer.pick(kept.index)
        if kept.folded is None or not kept.folded.numel():
            return picked
        summary = summarised(layer.pick(kept.folded[None]), lambda *moved: rotary.move(number, *moved))
        front, rest = torch.arange(self.protected), torch.arange(self.protected, picked.count)
        device = kept.index.device
        return picked.pick(front[None].to(device)).append(summary).append(picked.pick(rest[None].to(device)))

    def moved(self, positions: Mapping[int, Tensor], rotary: Rotary) -> Memory:
        """The same entries at other positions. positions: by layer, (h, S, P)."""
        layers = {}
        for number, layer in self.layers.items():
            before, after = layer.about[..., POSITION:], positions[number]
            about = torch.cat([layer.about[..., :POSITION], after], -1)
            layers[number] = replace(layer, keys=rotary.move(number, layer.keys, before, after), about=about)
        return replace(self, layers=layers)


def summarised(folded: LayerMemory, move: Callable[[Tensor, Tensor, Tensor], Tensor]) -> LayerMemory:
    """One entry for many: the mean of their values, and of their keys as they are at the position of the first.

    An entry that is a summary already weighs as many tokens as it stands for.
    """
    place = folded.about[..., PLACE]
    weight = torch.where(place < 0, -place, 1)[0].to(folded.keys)
    share = (weight / weight.sum())[None, :, None]
    positions = folded.about[..., POSITION:]
    keys = move(folded.keys, positions, positions[:, :1].expand_as(positions).contiguous())
    about = folded.about[:, :1].clone()
    about[..., PLACE] = -int(weight.sum())
    size = None if folded.size is None else (folded.size * weight).sum()[None] / weight.sum()
    return LayerMemory((keys * share).sum(1, keepdim=True), (folded.values * share).sum(1, keepdim=True), about, size)


def _bytes(value: Any) -> int:
    if isinstance(value, torch.Tensor):
        return value.numel() * value.element_size()
    return sum(map(_bytes, value.values())) if isinstance(value, dict) else 0
