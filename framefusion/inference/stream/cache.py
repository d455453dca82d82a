"""A memory as a cache that the model reads and adds to, and back again. Reading never writes into the memory."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.functional import pad
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer, LinearAttentionLayer

from framefusion.core.errors import UnsupportedModelError
from framefusion.engine.decoder.kv_cache import ReducedLayer
from framefusion.engine.sequence.key_index import KeyIndex
from framefusion.inference.stream.memory import LayerMemory, Memory
from framefusion.inference.stream.packed import Width, plain

if TYPE_CHECKING:
    from torch import Tensor

    from framefusion.engine.model.parts import ModelParts


class MemoryLayer(DynamicLayer):
    """Entries of memories, one for each row, which stay as they are, in front of those that this cache adds."""

    def __init__(self, stored: Sequence[LayerMemory | None]) -> None:
        super().__init__()
        self.stored = stored

    @property
    def held(self) -> int:
        """Entries of the row that has most, padding in front of those of the others."""
        return max(0 if row is None else row.count for row in self.stored)

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        keys, values = super().update(key_states, value_states, *args, **kwargs)
        if not self.held:
            return keys, values
        before = self._before("keys", keys), self._before("values", values)
        return torch.cat([before[0], keys], -2), torch.cat([before[1], values], -2)

    def _before(self, name: str, like: Tensor) -> Tensor:
        """(B, H, held, d)"""
        nothing = like.new_zeros(like.shape[1], 0, like.shape[-1])
        rows = [nothing if row is None else plain(getattr(row, name)) for row in self.stored]
        return torch.stack([pad(row, (0, 0, self.held - row.shape[1], 0)) for row in rows])


def cache_over(memories: Sequence[Memory], parts: ModelParts, owner: object) -> Any:
    """A cache whose rows hold `memories` in front of what comes, to be read under the engine `owner`."""
    cache = DynamicCache(config=parts.model.config)
    length = max(memory.count for memory in memories)
    for number, layer in enumerate(cache.layers):
        if type(layer) is LinearAttentionLayer:
            vars(layer).update(stacked([memory.states.get(number, {}) for memory in memories]))
        else:
            inner = MemoryLayer([memory.layers.get(number) for memory in memories])
            cache.layers[number] = ReducedLayer(inner, _index(inner, length, parts), length, owner)
    return cache


def _index(layer: MemoryLayer, length: int, parts: ModelParts) -> KeyIndex:
    """Entries as if they were the last columns of `length`: every later query sees all of them."""
    counts = torch.tensor([0 if row is None else row.count for row in layer.stored])
    columns = torch.arange(length - layer.held, length).expand(len(counts), -1)
    valid = columns >= (length - counts)[:, None]
    size = None
    if any(row is not None and row.size is not None for row in layer.stored):
        size = torch.ones(columns.shape)
        size[valid] = torch.cat([row.sizes().cpu() for row in layer.stored if row is not None])
    device = parts.model.device
    real = None if bool(valid.all()) else valid.to(device)
    return KeyIndex(columns.to(device), real, None if size is None else size.to(device))


def grown(memory: Memory, cache: Any, row: int, start: int, about: Tensor, protected: int, width: Width) -> Memory:
    """`memory` with what a pass added to row `row` of `cache`.

    start: columns in the cache before. about: (n, 2 + P) of the columns that the pass read and that stay, as in
    `LayerMemory`. protected: entries in front that always stay. width: what they are kept in.
    """
    layers: dict[int, LayerMemory] = {}
    states: dict[int, dict[str, Any]] = {}
    for number, layer in enumerate(cache.layers):
        if isinstance(layer, ReducedLayer):
            new = _added(layer, row, start, about, width)
            layers[number] = _behind(memory.layers.get(number), new)
        else:
            states[number] = _row_of(vars(layer), row)
    return Memory(layers, states, protected)


def _behind(before: LayerMemory | None, new: LayerMemory) -> LayerMemory:
    if before is None:
        return new
    device = before.about.device
    return before.append(new.each(lambda part: part.to(device)))


def _added(layer: ReducedLayer, row: int, start: int, about: Tensor, width: Width) -> LayerMemory:
    """What a pass added to a row of a layer, without padding of its batch and columns that close a clip."""
    keys, values = layer.inner.keys[row], layer.inner.values[row]
    seen = layer.keys_seen.last(keys.shape[1])
    columns, size = seen.columns[row] - start, None if seen.size is None else seen.size[row]
    real = columns < about.shape[0] if seen.valid is None else seen.valid[row] & (columns < about.shape[0])
    if not bool(real.all()):
        keys, values, columns = keys[:, real], values[:, real], columns[real]
        size = None if size is None else size[real]
    facts = about[columns.to(about.device)][None].to(keys.device)
    return LayerMemory(width.packed(keys), width.packed(values), facts, size)


def stacked(states: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What the recurrent layers of several streams hold, as the rows of one; copies, which the model writes into."""
    return {name: _together([state[name] for state in states]) for name in states[0]}


def _together(values: list[Any]) -> Any:
    if isinstance(values[0], torch.Tensor):
        return torch.cat(values)
    if isinstance(values[0], dict):
        return stacked(values)
    return deepcopy(values[0])


def _row_of(state: dict[str, Any], row: int) -> dict[str, Any]:
    return {
        name: value[row : row + 1].clone()
        if isinstance(value, torch.Tensor)
        else _row_of(value, row)
        if isinstance(value, dict)
        else deepcopy(value)
        for name, value in state.items()
    }


def check_layers(parts: ModelParts) -> None:
    """Raises UnsupportedModelError where a layer's cache cannot be brought down to a budget."""
    layers = DynamicCache(config=parts.model.config).layers
    for number, layer in enumerate(layers):
        reason = _why_not(layer)
        if reason is None and number < len(parts.blocks) and parts.blocks[number].key_source is not None:
            reason = "its layers read the keys of earlier ones, which a memory of its own per layer would part"
        if reason is not None:
            raise UnsupportedModelError(
                f"{type(parts.model).__name__} cannot remember a stream",
                reason,
                "take a model whose layers attend to the whole prompt; docs/stream.md lists families",
            )


def _why_not(layer: Any) -> str | None:
    if getattr(layer, "is_sliding", False):
        return "some of its layers see a window of the latest columns only, and tell distances by place in the cache"
    if type(layer) in (DynamicLayer, LinearAttentionLayer):
        return None
    return f"its cache has layers of a kind ({type(layer).__name__}) whose entries cannot be picked"
