"""Signals of one row that come from its text and from the last attention call."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from framefusion.engine.model.reach import hidden_tokens, may_hide
from framefusion.ops.attended import no_attention

if TYPE_CHECKING:
    from torch import Tensor

    from framefusion.engine.attention_observer import AttentionCall
    from framefusion.engine.decoder.unpadded_keys import Inputs
    from framefusion.engine.sequence.state import Row, Stream
    from framefusion.method import Point


@dataclass(frozen=True)
class Attended:
    """An attention call of decoder layer `layer`.

    asking: the stream whose slots its queries are. answering: the one its keys are of, which is that of an earlier and
    maybe longer layer where layers share keys; cached keys stand in front of them. inputs: of the module that made it,
    kept where rows count their padding.
    """

    call: AttentionCall
    layer: int
    asking: Stream
    answering: Stream
    inputs: Inputs | None = None

    def keys(self, row: int, columns: Tensor) -> Tensor:
        """(n, H_kv, d) at prompt columns (n,) of a row, rotated as far as in the row alone."""
        places = self.places(row, columns)
        alone = None if self.inputs is None else self.inputs.keys_of_row(row, self.asking)
        return self.call.keys(row, places) if alone is None else replace(self.call, key=alone).keys(0, places)

    def places(self, row: int, columns: Tensor) -> Tensor:
        """Where the tokens of prompt columns (n,) of a row stand among the keys."""
        past = self.call.key.shape[2] - self.answering.length
        return (self.answering.home[row, columns] + past).to(self.call.key.device)


class RowSignals:
    """What one row gives at one point, whose sequence may be shorter than that of the last attention call.

    query_column: (1,) prompt column that asks. Nothing behind it is seen, as if it were not there.
    """

    def __init__(
        self, index: int, seen: Row, stream: Stream, attended: Attended | None, query_column: Tensor, layers: int
    ) -> None:
        self.index, self.seen, self.stream, self.layers = index, seen, stream, layers
        self._attended = attended
        self._query_column = query_column

    @property
    def text_slots(self) -> Tensor:
        """(M,) slots of the row up to the asking column that hold neither visual tokens nor padding."""
        text = torch.ones(self.stream.length, dtype=torch.bool, device=self.stream.columns.device)
        if self.stream.valid is not None:
            text = text & self.stream.valid[self.index]
        text = text & (self.stream.columns[self.index] <= self._query_column)
        text[self.stream.rows[self.index].slots] = False
        return text.nonzero().flatten()

    def sees(self) -> bool:
        """Whether the asking row of the last attention call sees every visual token that is left."""
        attended = self._attended
        if attended is None:
            return False
        if not may_hide(attended.call, attended.layer, self.layers):
            return True
        visual = self.stream.columns[self.index][self.stream.rows[self.index].slots.to(self.stream.columns.device)]
        return attended.call.sees(self.index, self._query_slot(attended), attended.places(self.index, visual))

    def attention(self, point: Point, count: int) -> Tensor:
        """(N,)"""
        attended = self._seeing(point)
        row = attended.call.rows(self.index, self._query_slot(attended), count)
        return row[attended.places(self.index, self._columns())]

    def text_attention(self, point: Point) -> Tensor:
        """(H, R, N)"""
        attended = self._seeing(point)
        slots = self.text_slots[self.text_slots > self.stream.rows[self.index].slots[-1]]
        rows = attended.asking.home[self.index][self.stream.columns[self.index][slots]].to(attended.call.key.device)
        return attended.call.map(self.index, rows).index_select(-1, attended.places(self.index, self._columns()))

    def keys(self, point: Point) -> Tensor:
        """(N, H_kv, d)"""
        return self._keys_at(point, self._columns())

    def text_keys(self, point: Point) -> Tensor:
        """(M, H_kv, d)"""
        return self._keys_at(point, self.stream.columns[self.index][self.text_slots])

    def _keys_at(self, point: Point, columns: Tensor) -> Tensor:
        if self._attended is None:
            raise no_attention(point)
        return self._attended.keys(self.index, columns)

    def _seeing(self, point: Point) -> Attended:
        if self._attended is None:
            raise no_attention(point)
        if not self.sees():
            raise hidden_tokens(point, self._attended.call, self._attended.layer, self.layers)
        return self._attended

    def _query_slot(self, attended: Attended) -> Tensor:
        return attended.asking.home[self.index].index_select(0, self._query_column.view(1))

    def _columns(self) -> Tensor:
        return self.stream.columns[self.index][self.seen.slots.to(self.stream.columns.device)]
