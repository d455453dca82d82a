"""Keys of a padded row as the row alone would have them.

A forward call without positions counts padding on the left like tokens. Attention does not mind, since rotary positions
are relative; but keys themselves, and the size of their entries, depend on where the row begins.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from copy import copy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from framefusion.engine import context
from framefusion.engine.decoder.layer_inputs import POSITION_PREFIX, cut_positions
from framefusion.engine.model.cache_names import CACHE_NAMES

if TYPE_CHECKING:
    from torch import Tensor, nn

    from framefusion.engine.sequence.state import Stream

HIDDEN = "hidden_states"
POSITION_IDS = "position_ids"
LEFT_OUT = {"attention_mask", *CACHE_NAMES}


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
    found: list[int] = first.tolist()
    return found if any(found) else None


def tables_of(given: Mapping[str, Any]) -> dict[str, Any]:
    """The rotary tables among the inputs of a layer."""
    return {name: value for name, value in given.items() if name.startswith(POSITION_PREFIX) and value is not None}


@dataclass(frozen=True)
class Inputs:
    """What an attention module was called with.

    tables: of all `length` columns. firsts: as `first_columns` gives it. made: keys of the rows that were asked for.
    """

    module: nn.Module
    args: tuple[Any, ...]
    given: Mapping[str, Any]
    tables: Mapping[str, Any]
    length: int
    firsts: list[int]
    made: dict[int, Tensor | None] = field(default_factory=dict)

    def keys_of_row(self, row: int, stream: Stream) -> Tensor | None:
        """(1, H_kv, K, d): keys the module makes of the row's slots at positions counted from its first token.

        None where its positions do not come in tables, or it counts none in front.
        """
        if row not in self.made:
            self.made[row] = self._make(row, stream) if self.firsts[row] and self.tables else None
        return self.made[row]

    def _make(self, row: int, stream: Stream) -> Tensor | None:
        call = context.call()
        if call is None:
            return None
        columns = (stream.columns[row : row + 1] - self.firsts[row]).clamp(min=0)
        batch = stream.columns.shape[0]
        given = {name: _row(value, row, batch) for name, value in self.given.items() if name not in LEFT_OUT}
        given |= {name: None for name in self.given if name in LEFT_OUT}
        if isinstance(given.get(POSITION_IDS), torch.Tensor):
            given[POSITION_IDS] = (given[POSITION_IDS] - self.firsts[row]).clamp(min=0)
        for name in self.tables.keys() & self.given.keys():
            given[name] = cut_positions(_table(self.tables[name], row), columns, self.length)
        args = tuple(_row(value, row, batch) for value in self.args)
        with torch.no_grad(), call.only_watching() as seen:
            self.module(*args, **given)
        return seen[0].key if seen else None


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
