"""What a stream remembers: keys and values of every layer, and where and when each entry was."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch

from framefusion.inference.stream.packed import Packed, joined, picked, plain, repacked, rows
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

    keys: (H, S, d), rotated. values: (H, S, d'). Both may be packed. about: (h, S, 2 + P) int32 frame, place and
    positions, h being 1 as long as all heads hold the same tokens. size: (S,) float32 tokens an entry counts for, None
    where each is one.
    """

    keys: Tensor | Packed
    values: Tensor | Packed
    about: Tensor
    size: Tensor | None = None

    @property
    def count(self) -> int:
        return self.about.shape[1]

    @property
    def tensors(self) -> dict[str, Tensor]:
        """Everything it holds, by name."""
        found = {"about": self.about} | ({} if self.size is None else {"size": self.size})
        for name in ("keys", "values"):
            held = getattr(self, name)
            parts = held.parts() if isinstance(held, Packed) else {}
            found |= {f"{name}.{part}": tensor for part, tensor in parts.items()} or {name: held}
        return found

    @property
    def bytes(self) -> int:
        return sum(tensor.numel() * tensor.element_size() for tensor in self.tensors.values())

    def each(self, change: Callable[[Tensor], Tensor]) -> LayerMemory:
        """The same with every tensor changed."""
        keys, values = (
            held.each(change) if isinstance(held, Packed) else change(held) for held in (self.keys, self.values)
        )
        return LayerMemory(keys, values, change(self.about), None if self.size is None else change(self.size))

    def since(self, step: int) -> Tensor:
        """(S,) whether an entry is of this step or a later one."""
        return self.about[0, :, FRAME] >= step

    def entries(self, protected: int, scores: Tensor | None = None) -> Entries:
        frame, place, position = self.about[..., FRAME], self.about[..., PLACE], self.about[..., POSITION:]
        return Entries(plain(self.keys), plain(self.values), frame, place, position, protected, scores)

    def append(self, other: LayerMemory) -> LayerMemory:
        """The same entries and newer ones behind them."""
        mine, theirs = self.about, other.about
        heads = max(mine.shape[0], theirs.shape[0])
        about = torch.cat([mine.expand(heads, -1, -1), theirs.expand(heads, -1, -1)], 1)
        size = None
        if self.size is not None or other.size is not None:
            size = torch.cat([self.sizes(), other.sizes()])
        return LayerMemory(joined(self.keys, other.keys), joined(self.values, other.values), about, size)

    def sizes(self) -> Tensor:
        return torch.ones(self.count, device=self.about.device) if self.size is None else self.size

    def pick(self, index: Tensor) -> LayerMemory:
        """The entries at (h, K), of every head its own where h is the number of heads."""
        if index.shape[0] == 1 and index.shape[1] == self.count:
            return self
        heads = max(index.shape[0], self.about.shape[0])
        about = rows(self.about.expand(heads, -1, -1), index)
        size = None if self.size is None else self.size[index].mean(0)
        return LayerMemory(picked(self.keys, index), picked(self.values, index), about, size)


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
        first = [layer.pick(torch.zeros(1, 1, dtype=torch.long, device=layer.about.device)) for layer in layers]
        return sum(_bytes(plain(layer.keys)) + _bytes(plain(layer.values)) for layer in first)

    @property
    def count(self) -> int:
        """Entries of the layer that holds most."""
        return max((layer.count for layer in self.layers.values()), default=0)

    def since(self, step: int) -> int:
        """Entries of the steps from this one on, in the layer that holds most of them."""
        return max((int(layer.since(step).sum()) for layer in self.layers.values()), default=0)

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
        staying = layer.pick(kept.index)
        if kept.folded is None or not kept.folded.numel():
            return staying
        summary = summarised(layer.pick(kept.folded[None]), lambda *moved: rotary.move(number, *moved))
        order = torch.arange(staying.count, device=kept.index.device)[None]
        front, rest = order[:, : self.protected], order[:, self.protected :]
        return staying.pick(front).append(summary).append(staying.pick(rest))

    def on(self, device: Any) -> Memory:
        """The same, its entries on `device`."""
        layers = {number: layer.each(lambda part: part.to(device)) for number, layer in self.layers.items()}
        return replace(self, layers=layers)

    def view(self, index: Mapping[int, Tensor], device: Any) -> Memory:
        """Some entries of every layer, on `device`. index: by layer, (h, K)."""
        return replace(self, layers={n: layer.pick(index[n]) for n, layer in self.layers.items()}).on(device)

    def moved(self, positions: Mapping[int, Tensor], rotary: Rotary) -> Memory:
        """The same entries at other positions. positions: by layer, (h, S, P)."""
        layers = {}
        for number, layer in self.layers.items():
            before, after = layer.about[..., POSITION:], positions[number]
            about = torch.cat([layer.about[..., :POSITION], after], -1)
            keys = repacked(rotary.move(number, plain(layer.keys), before, after), layer.keys)
            layers[number] = replace(layer, keys=keys, about=about)
        return replace(self, layers=layers)


def summarised(folded: LayerMemory, move: Callable[[Tensor, Tensor, Tensor], Tensor]) -> LayerMemory:
    """One entry for many: the mean of their values, and of their keys as they are at the position of the first.

    An entry that is a summary already weighs as many tokens as it stands for.
    """
    place = folded.about[..., PLACE]
    held, values = plain(folded.keys), plain(folded.values)
    weight = torch.where(place < 0, -place, 1)[0].to(held)
    share = (weight / weight.sum())[None, :, None]
    positions = folded.about[..., POSITION:]
    keys = move(held, positions, positions[:, :1].expand_as(positions).contiguous())
    about = folded.about[:, :1].clone()
    about[..., PLACE] = -int(weight.sum())
    size = None if folded.size is None else (folded.size * weight).sum()[None] / weight.sum()
    keys, values = ((part * share).sum(1, keepdim=True) for part in (keys, values))
    return LayerMemory(repacked(keys, folded.keys), repacked(values, folded.values), about, size)


def _bytes(value: Any) -> int:
    if isinstance(value, torch.Tensor):
        return value.numel() * value.element_size()
    return sum(map(_bytes, value.values())) if isinstance(value, dict) else 0
