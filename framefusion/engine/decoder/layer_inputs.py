"""What the model's loop hands each layer, cut to the slots that are left: mask, positions, inputs with a row per token.

Inputs that layers share are cut once per forward pass.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from framefusion.engine.decoder.kv_cache import ReducedLayer, cached_layer, visible_past
from framefusion.engine.decoder.merged_weights import index_of
from framefusion.engine.model.cache_names import CACHE_NAMES
from framefusion.engine.sequence.key_index import KeyIndex
from framefusion.engine.sequence.masks import cut_mask
from framefusion.engine.sequence.slicing import POSITION_TABLES, cut_position_ids, cut_positions, cut_sequence

if TYPE_CHECKING:
    from torch import Tensor

    from framefusion.engine.model.parts import Block
    from framefusion.engine.sequence.state import SequenceState

MASK = "attention_mask"
POSITION_IDS = "position_ids"


class LayerInputs:
    """Inputs of the layers of one forward pass over `length` columns behind `past` cached ones.

    flash: whether attention runs in a flash kernel. weighs: whether a merged token counts in attention as often as it
    has originals. keys: by layer, the entries its attention reads.
    """

    def __init__(self, past: int, length: int, flash: bool, weighs: bool = False) -> None:
        self.past, self.length, self.flash, self.weighs = past, length, flash, weighs
        self.keys: dict[int, KeyIndex] = {}
        self._memo: dict[tuple, Any] | None = {}

    def finish(self) -> None:
        """The pass is over; replays in a backward pass remember nothing more."""
        self._memo = None

    def push_keys(self, layer: int, block: Block, state: SequenceState, cache: Any, owner: object) -> None:
        """Before the attention of `layer`: which entries it reads, told to the layer of the cache that stores them.

        cached entries come first, then the slots of `state`. A layer without keys of its own reads its source's.
        """
        if block.key_source is not None:
            self.keys[layer] = self.keys[block.key_source]
            return
        queries = self._queries(state)
        past = visible_past(cache, layer, self.past, self.length, queries.columns)
        self.keys[layer] = queries if past is None else self._joined(past, queries)
        entry = cached_layer(cache, layer)
        if isinstance(entry, ReducedLayer):
            after = self._joined(entry.keys_seen, queries).last(entry.stored_after(queries.length))
            entry.expect(after, self.length, owner)

    def cut(self, layer: int, block: Block, state: SequenceState, given: dict[str, Any]) -> dict[str, Any]:
        """The inputs `given` of `layer`, hidden states aside, for the sequence `state`."""
        inputs = {}
        for name, value in given.items():
            if name == MASK:
                value = self._padding(state, value) if block.attention is None else self._mask(layer, state, value)
            elif name == POSITION_IDS and self.flash and POSITION_TABLES in given and state.version:
                # Flash attention would take their gaps for borders of packed sequences; the rotary tables are there.
                value = None
            elif value is not None and state.version and name not in CACHE_NAMES:
                value = self._rows(name, state, value)
            inputs[name] = value
        return inputs

    def _queries(self, state: SequenceState) -> KeyIndex:
        """The slots of `state` in columns counted from the beginning of the cache."""
        return self._once(("queries", id(state)), state, lambda: index_of(state, self.past, self.weighs))

    def _joined(self, past: KeyIndex, queries: KeyIndex) -> KeyIndex:
        """Layers that hold the same entries share one object, and with it one mask."""
        return self._once(("joined", id(past), id(queries)), (past, queries), lambda: past.append(queries))

    def _mask(self, layer: int, state: SequenceState, mask: Any) -> Any:
        queries, keys = self._queries(state), self.keys[layer]
        return self._once(
            (MASK, id(mask), id(queries), id(keys)),
            (mask, queries, keys),
            lambda: cut_mask(mask, queries, keys, self.past + self.length, self.length, self.flash),
        )

    def _padding(self, state: SequenceState, mask: Tensor | None) -> Tensor | None:
        """What a recurrent layer gets instead of the model's padding mask."""
        return state.valid if state.valid is None or mask is None else state.valid.to(mask.dtype)

    def _rows(self, name: str, state: SequenceState, value: Any) -> Any:
        rule = cut_sequence
        if name.startswith(POSITION_TABLES):
            rule = cut_positions
        elif name == POSITION_IDS:
            rule = cut_position_ids
        key = (name, id(value), id(state))
        return self._once(key, (value, state), lambda: rule(value, state.columns, self.length))

    def _once(self, key: tuple, anchor: Any, make: Callable[[], Any]) -> Any:
        """`anchor` is held so that the ids in `key` stay unique."""
        if self._memo is None:
            return make()
        if key not in self._memo:
            self._memo[key] = (make(), anchor)
        return self._memo[key][0]
