"""The attention call before a point: whose slots its queries and keys are, and keys of padded rows as rows alone.

A forward call without positions counts padding on the left like tokens. Attention does not mind, since rotary positions
are relative; but keys themselves, and the size of their entries, depend on where the row begins. For stages that read
keys the attention module therefore runs once more on such a row, at its own positions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping
from copy import copy
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch

from framefusion.engine.model.cache_names import CACHE_NAMES
from framefusion.engine.sequence.slicing import POSITION_TABLES, cut_positions

if TYPE_CHECKING:
    from torch import Tensor, nn

    from framefusion.engine.attention_call import AttentionCall
    from framefusion.engine.sequence.state import SequenceState

POSITION_IDS = "position_ids"
LEFT_OUT = {"attention_mask", *CACHE_NAMES}


@dataclass(frozen=True)
class LayerAttention:
    """The attention call of decoder layer `layer`.

    asking: the sequence whose slots its queries are. answering: the one its keys are of, that of an earlier and maybe
    longer layer where layers share keys; cached keys stand in front of them. inputs: of the module that made it, kept
    where rows count their padding.
    """

    call: AttentionCall
    layer: int
    asking: SequenceState
    answering: SequenceState
    inputs: AttentionInputs | None = None

    def keys(self, row: int, columns: Tensor) -> Tensor:
        """(n, H_kv, d) at prompt columns (n,) of a row, rotated as far as in the row alone."""
        places = self.places(row, columns)
        alone = None if self.inputs is None else self.inputs.keys_of_row(row, self.asking)
        return self.call.keys(row, places) if alone is None else replace(self.call, key=alone).keys(0, places)

    def places(self, row: int, columns: Tensor) -> Tensor:
        """Where the tokens of prompt columns (n,) of a row stand among the keys."""
        past = self.call.key.shape[2] - self.answering.length
        return (self.answering.home[row, columns] + past).to(self.call.key.device)


class LastAttention:
    """Keeps the latest attention call of a forward pass over `length` columns; scores are computed if a stage asks.

    padding: as `first_columns` gives it, None where no stage reads keys.
    """

    def __init__(self, length: int, padding: list[int] | None) -> None:
        self.latest: LayerAttention | None = None
        self._length, self._padding = length, padding
        self._tables: dict[str, Any] = {}
        self._inputs: AttentionInputs | None = None
        self._repeated: list[AttentionCall] | None = None
        self._asking: SequenceState | None = None
        self._source: SequenceState | None = None

    def layer_begins(self, given: Mapping[str, Any], asking: SequenceState, source: SequenceState | None) -> None:
        """given: the layer's inputs, uncut. source: the sequence of the layer whose keys it reads, None for its own."""
        self._asking, self._source = asking, source
        if self._padding is not None:
            self._tables = {
                n: value for n, value in given.items() if n.startswith(POSITION_TABLES) and value is not None
            }

    @property
    def repeats(self) -> bool:
        """Whether an attention module is run once more, for its keys alone."""
        return self._repeated is not None

    def module_begins(self, module: nn.Module, args: tuple[Any, ...], given: dict[str, Any]) -> None:
        """Keep what the attention module is called with."""
        if self._padding is not None and self._repeated is None:
            self._inputs = AttentionInputs(
                module, args, given, self._tables, self._length, self._padding, self._calls_of
            )

    def saw(self, call: AttentionCall, layer: int) -> bool:
        """Keep a call; False where it is none of the prompt's."""
        if self._repeated is not None:
            self._repeated.append(call)
            return False
        assert self._asking is not None
        if self._source is None:
            self.latest = LayerAttention(call, layer, self._asking, self._asking, self._inputs)
        else:
            self.latest = LayerAttention(call, layer, self._asking, self._source)
        return True

    def _calls_of(self, run: Callable[[], Any]) -> list[AttentionCall]:
        """The attention calls that `run` makes, which are none of the prompt's."""
        calls = self._repeated = []
        try:
            with torch.no_grad():
                run()
        finally:
            self._repeated = None
        return calls


def first_columns(real: Tensor | None, positions: Any, past: int) -> list[int] | None:
    """How many columns of padding each row counts as positions in front of its first token, None where no row does.

    real: (B, L) False for padding. positions: what the decoder was given, None if it counts columns.
    """
    if real is None or past:
        return None
    first = real.to(torch.int8).argmax(1)
    if isinstance(positions, torch.Tensor):
        if positions.ndim != 2:
            return None
        counted = positions.to(first.device).expand(len(first), -1)
        there = counted.gather(1, first[:, None])[:, 0]
        first = torch.where(there == counted[:, 0] + first, first, 0)
    columns: list[int] = first.tolist()
    return columns if any(columns) else None


@dataclass(frozen=True)
class AttentionInputs:
    """What an attention module was called with.

    tables: rotary tables of all `length` columns. padding: as `first_columns` gives it. calls_of: runs a function and
    returns the attention calls it makes. made: keys of the rows that were asked for.
    """

    module: nn.Module
    args: tuple[Any, ...]
    given: Mapping[str, Any]
    tables: Mapping[str, Any]
    length: int
    padding: list[int]
    calls_of: Callable[[Callable[[], Any]], list[AttentionCall]]
    made: dict[int, Tensor | None] = field(default_factory=dict)

    def keys_of_row(self, row: int, state: SequenceState) -> Tensor | None:
        """(1, H_kv, K, d): keys the module makes of the row's slots at positions counted from its first token.

        None where its positions do not come in tables, or it counts none in front.
        """
        if row not in self.made:
            self.made[row] = self._make(row, state) if self.padding[row] and self.tables else None
        return self.made[row]

    def _make(self, row: int, state: SequenceState) -> Tensor | None:
        columns = (state.columns[row : row + 1] - self.padding[row]).clamp(min=0)
        batch = state.columns.shape[0]
        given = {name: None if name in LEFT_OUT else _row(value, row, batch) for name, value in self.given.items()}
        position_ids = given.get(POSITION_IDS)
        if isinstance(position_ids, torch.Tensor):
            given[POSITION_IDS] = (position_ids - self.padding[row]).clamp(min=0)
        for name in self.tables.keys() & self.given.keys():
            given[name] = cut_positions(_table(self.tables[name], row), columns, self.length)
        args = tuple(_row(value, row, batch) for value in self.args)
        calls = self.calls_of(lambda: self.module(*args, **given))
        return calls[0].key if calls else None


def _row(value: Any, row: int, batch: int) -> Any:
    if isinstance(value, MutableMapping):
        return copy(value)  # layers leave keys for later ones there
    if isinstance(value, torch.Tensor) and value.ndim > 1 and value.shape[0] == batch:
        return value[row : row + 1]
    return value


def _table(value: Any, row: int) -> Any:
    if isinstance(value, (tuple, list)):
        return type(value)(_table(part, row) for part in value)
    if isinstance(value, torch.Tensor) and value.ndim > 2 and value.shape[-3] > 1:
        return value[..., row : row + 1, :, :]
    return value
