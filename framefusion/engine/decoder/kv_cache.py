"""A layer of a transformers cache that holds fewer entries than the prompt has columns."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import TYPE_CHECKING, Any

import torch
from transformers.cache_utils import CacheLayerMixin, LinearAttentionCacheLayerMixin

from framefusion.core.errors import CacheCropError, StaleCacheError
from framefusion.engine.model.cropping import crop_layer
from framefusion.engine.sequence.key_index import KeyIndex

if TYPE_CHECKING:
    from torch import Tensor


def _of_inner(name: str) -> property:
    """An attribute that lies in the wrapped layer, which is not there yet while the mixin's `__init__` runs."""

    def write(layer: ReducedLayer, value: Any) -> None:
        if "inner" in vars(layer):
            setattr(layer.inner, name, value)

    return property(lambda layer: getattr(layer.inner, name), write)


class ReducedLayer(CacheLayerMixin):
    """Stands in a cache's `layers` for one of its own layers and answers in prompt columns.

    The model sizes masks and positions by what the cache reports, so this layer reports the logical length: the columns
    the prompt would have without reduction. What is stored lies in the wrapped layer; `keys_seen` says which column
    each stored entry had.
    """

    def __init__(self, inner: CacheLayerMixin, keys_seen: KeyIndex, logical_length: int, owner: object) -> None:
        CacheLayerMixin.__init__(self)
        self.inner = inner
        self.keys_seen = keys_seen
        self.logical_length = logical_length
        self._owner = owner
        self._expected: tuple[KeyIndex, int] | None = None

    def __getattr__(self, name: str) -> Any:
        if name == "inner":
            raise AttributeError(name)
        return getattr(self.inner, name)

    def __repr__(self) -> str:
        return f"ReducedLayer({self.inner!r}, {self.keys_seen.length} of {self.logical_length})"

    def __deepcopy__(self, memo: dict[int, Any]) -> ReducedLayer:
        """A fork of the conversation, under the same reduction."""
        fork: ReducedLayer = object.__new__(type(self))
        memo[id(self)] = fork
        for name, value in vars(self).items():
            fork.__dict__[name] = value if name == "_owner" else deepcopy(value, memo)
        return fork

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise StaleCacheError(
            "the cache of a reduced prompt cannot be pickled",
            "it can only be read under the reduction that made it, which lives in this process",
            "keep the conversation's ids and pictures and read them again; `copy.deepcopy` forks it in this process",
        )

    keys: Any = _of_inner("keys")
    values: Any = _of_inner("values")
    is_initialized: Any = _of_inner("is_initialized")

    @property
    def is_sliding(self) -> bool:
        return getattr(self.inner, "is_sliding", False)

    @property
    def is_croppable(self) -> bool:
        return getattr(self.inner, "is_croppable", False)

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        self.inner.lazy_initialization(key_states, value_states)

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        if self._expected is None:
            raise StaleCacheError(
                "this cache belongs to a reduced prompt and cannot be read without the reduction that made it",
                "its layers hold fewer entries than the prompt has columns, so the model's masks would not fit",
                "keep generating inside the `with framefusion.reduce(...)` block, or start from a new cache",
            )
        self.keys_seen, columns = self._expected
        self.logical_length += columns
        return self.inner.update(key_states, value_states, *args, **kwargs)

    def expect(self, after: KeyIndex, columns: int, owner: object) -> None:
        """Allow the next update, which a forward pass under `owner` makes; another owner's is refused.

        after: entries stored then. columns: of the pass.
        """
        if owner is self._owner:
            self._expected = after, columns

    def expect_nothing(self) -> None:
        """The forward pass is over."""
        self._expected = None

    def visible_keys(self) -> KeyIndex:
        """Stored entries the next attention call sees before the new ones."""
        return self.keys_seen.last(self.inner.sliding_window - 1) if self.is_sliding else self.keys_seen

    def stored_after(self, added: int) -> int:
        """Entries the wrapped layer holds once `added` more came in."""
        stored = self.keys_seen.length + added
        if self.is_sliding and not getattr(self.inner, "record_past", False):
            return min(stored, self.inner.sliding_window - 1)
        return stored

    def get_seq_length(self) -> int:
        return self.logical_length

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.logical_length + query_length, 0

    def get_max_length(self) -> int:
        return self.inner.get_max_length()

    def reset(self) -> None:
        self.inner.reset()
        self.keys_seen = self.keys_seen.nothing()
        self.logical_length = 0

    def crop(self, tokens_to_remove: int) -> None:
        """Drop the last columns; `tokens_to_remove` is negative or zero, as in transformers."""
        # Assisted decoding counts in a tensor, which our own counting would change under everyone who holds it.
        length = self.logical_length + int(tokens_to_remove)
        stored = self.keys_seen.count_before(length)
        if stored is None:
            raise CacheCropError(
                f"the cache cannot be cropped to {length} columns",
                "that cuts into reduced tokens of which the rows of the batch hold unequal numbers",
                "crop at a place after the visual tokens",
            )
        crop_layer(self.inner, self.keys_seen.length - stored)
        self.logical_length = length
        self.keys_seen = self.keys_seen.first(stored)
        if self.is_sliding:
            self.keys_seen = self.keys_seen.last(min(stored, self.inner.keys.shape[-2]))

    def reorder_cache(self, beam_idx: Tensor) -> None:
        self.inner.reorder_cache(beam_idx)
        self.keys_seen = self.keys_seen.pick_rows(beam_idx)

    def batch_repeat_interleave(self, repeats: int) -> None:
        self.inner.batch_repeat_interleave(repeats)
        rows = torch.arange(self.keys_seen.columns.shape[0], device=self.keys_seen.columns.device)
        self.keys_seen = self.keys_seen.pick_rows(rows.repeat_interleave(repeats))

    def batch_select_indices(self, indices: Tensor) -> None:
        self.inner.batch_select_indices(indices)
        self.keys_seen = self.keys_seen.pick_rows(indices)


class ReducedMixedLayer(ReducedLayer, LinearAttentionCacheLayerMixin):
    """The same for a layer that also keeps the states of a convolution or a recurrence, which its wrapped layer holds.

    The states of a reduced prompt are those of its short sequence, so nothing has to be translated.
    """

    is_compileable = False

    def update_conv_state(self, *args: Any, **kwargs: Any) -> Tensor:
        return self.inner.update_conv_state(*args, **kwargs)

    def update_recurrent_state(self, *args: Any, **kwargs: Any) -> Tensor:
        return self.inner.update_recurrent_state(*args, **kwargs)

    def activate_past_recording(self) -> None:
        self.inner.activate_past_recording()

    def offload(self) -> None:
        self.inner.offload()

    def prefetch(self) -> None:
        self.inner.prefetch()


def cached_layer(cache: Any, number: int) -> Any:
    """Layer `number` of a cache, None where there is none."""
    layers = getattr(cache, "layers", ())
    return layers[number] if number < len(layers) else None


def state_bytes(entry: Any) -> int:
    """Bytes of the states that a layer of a cache keeps beside keys and values, all rows together."""
    kept = (getattr(entry, name, None) for name in ("conv_states", "recurrent_states"))
    states = [state for one in kept for state in (one.values() if isinstance(one, dict) else [one])]
    return sum(state.numel() * state.element_size() for state in states if isinstance(state, torch.Tensor))


def visible_past(cache: Any, layer: int, past: int, query_length: int, like: Tensor) -> KeyIndex | None:
    """Cached entries the attention of `layer` reads before the new ones, None when there are none.

    past: columns cached so far. like: (B, Q) tensor whose batch and device the answer shares.
    """
    entry = cached_layer(cache, layer)
    if not past or entry is None:
        return None
    if isinstance(entry, ReducedLayer):
        return entry.visible_keys()
    if not isinstance(entry, CacheLayerMixin):
        return None
    stored, _ = entry.get_mask_sizes(query_length)
    return KeyIndex.range(like.shape[0], past, like.device).last(stored - query_length)


def wrap_layers(cache: Any, keys: Mapping[int, KeyIndex], logical_length: int, owner: object) -> None:
    """Let every attention layer of `cache` answer in prompt columns. keys: entries each layer's attention just read."""
    for index, entry in enumerate(cache.layers):
        if index in keys and isinstance(entry, CacheLayerMixin) and not isinstance(entry, ReducedLayer):
            seen = keys[index]
            if getattr(entry, "is_sliding", False):
                seen = seen.last(entry.keys.shape[-2])
            mixed = isinstance(entry, LinearAttentionCacheLayerMixin)
            wrapper = ReducedMixedLayer if mixed else ReducedLayer
            cache.layers[index] = wrapper(entry, seen, logical_length, owner)


def end_forward(cache: Any) -> None:
    """No layer of `cache` may be read any more without the reduction that made it."""
    for entry in getattr(cache, "layers", ()):
        if isinstance(entry, ReducedLayer):
            entry.expect_nothing()
