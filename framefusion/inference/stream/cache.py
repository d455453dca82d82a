"""A memory as a cache that the model reads and adds to, and back again. Reading never writes into the memory."""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING, Any

import torch
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
    """Entries of a memory, which stay as they are, in front of those that this cache adds."""

    def __init__(self, stored: LayerMemory | None) -> None:
        super().__init__()
        self.stored = stored

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        keys, values = super().update(key_states, value_states, *args, **kwargs)
        if self.stored is None:
            return keys, values
        before = plain(self.stored.keys)[None], plain(self.stored.values)[None]
        return torch.cat([before[0], keys], -2), torch.cat([before[1], values], -2)


def cache_over(memory: Memory, parts: ModelParts, owner: object) -> Any:
    """A cache whose layers hold `memory` in front of what comes, to be read under the engine `owner`."""
    cache = DynamicCache(config=parts.model.config)
    length = memory.count
    for number, layer in enumerate(cache.layers):
        if type(layer) is LinearAttentionLayer:
            vars(layer).update(deepcopy(memory.states.get(number, {})))
        else:
            stored = memory.layers.get(number)
            cache.layers[number] = ReducedLayer(MemoryLayer(stored), _index(stored, length, parts), length, owner)
    return cache


def _index(stored: LayerMemory | None, length: int, parts: ModelParts) -> KeyIndex:
    """Entries as if they were the last columns of `length`: every later query sees all of them."""
    device = parts.model.device
    count = 0 if stored is None else stored.count
    size = None if stored is None or stored.size is None else stored.size[None]
    return KeyIndex(torch.arange(length - count, length, device=device)[None], None, size)


def grown(memory: Memory, cache: Any, start: int, about: Tensor, protected: int, width: Width) -> Memory:
    """`memory` with what a pass added to `cache`.

    start: columns in the cache before. about: (n, 2 + P) of the columns that the pass read, as in `LayerMemory`.
    protected: entries in front that stay. width: what they are kept in.
    """
    layers: dict[int, LayerMemory] = {}
    states: dict[int, dict[str, Any]] = {}
    for number, layer in enumerate(cache.layers):
        if isinstance(layer, ReducedLayer):
            layers[number] = _grown_layer(memory.layers.get(number), layer, about, start, width)
        else:
            states[number] = dict(vars(layer))
    return Memory(layers, states, protected)


def _grown_layer(
    before: LayerMemory | None, layer: ReducedLayer, about: Tensor, start: int, width: Width
) -> LayerMemory:
    keys, values = layer.inner.keys[0], layer.inner.values[0]
    seen = layer.keys_seen.last(keys.shape[1])
    columns = seen.columns[0] - start
    size = None if seen.size is None else seen.size[0]
    facts = about[columns.to(about.device)][None].to(keys.device)
    new = LayerMemory(width.packed(keys), width.packed(values), facts, size)
    return new if before is None else before.append(new.each(lambda part: part.to(before.about.device)))


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
