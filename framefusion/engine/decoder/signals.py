"""What a stage may look at in one row of the decoder: its states, its text, and the last attention call before it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from framefusion.core.errors import MissingSignalError
from framefusion.core.layout import Geometry
from framefusion.core.method import no_attention
from framefusion.engine.sequence.state import VisualRow

if TYPE_CHECKING:
    from torch import Tensor

    from framefusion.core.method import Point, Stage
    from framefusion.engine.decoder.attention import LayerAttention
    from framefusion.engine.sequence.state import SequenceState

SCORES = frozenset({"attention", "text_attention"})
KEYS = frozenset({"keys", "text_keys"})
LOGITS = frozenset({"mean_logits"})
AXES = 3
"""Axes of the positions of a token of a clip: time, rows and columns."""

KINDS = ("layer_types", "layers_block_type")
FULL = ("full_attention", "attention")
WINDOWS = ("sliding_window", "attention_chunk_size")


class RowSignals:
    """What one row gives at one point, whose sequence may be shorter than that of the last attention call.

    seen: the row as the stage sees it. query_column: (1,) prompt column that asks; nothing behind it is seen, as if it
    were not there. layers: how many the decoder has. positions: what the decoder was given as such, None if nothing.
    """

    def __init__(
        self,
        index: int,
        seen: VisualRow,
        state: SequenceState,
        attention: LayerAttention | None,
        query_column: Tensor,
        layers: int,
        positions: Any = None,
    ) -> None:
        self.index, self.seen, self.state, self.layers = index, seen, state, layers
        self._positions = positions
        self._attention = attention
        self._query_column = query_column

    @property
    def text_slots(self) -> Tensor:
        """(M,) slots of the row up to the asking column that hold neither visual tokens nor padding."""
        text = self.state.columns[self.index] <= self._query_column
        if self.state.valid is not None:
            text = text & self.state.valid[self.index]
        text[self.state.rows[self.index].slots] = False
        return text.nonzero().flatten()

    @property
    def ran(self) -> bool:
        """Whether an attention layer ran before."""
        return self._attention is not None

    def sees(self) -> bool:
        """Whether the asking row of the last attention call sees every visual token that is left."""
        attention = self._attention
        if attention is None:
            return False
        if attention.layer in full_layers(attention.call.module.config, self.layers):
            return True
        visual = self._columns(self.state.rows[self.index].slots)
        return attention.call.sees(self.index, self._query_slot(attention), attention.places(self.index, visual))

    def attention(self, point: Point, count: int) -> Tensor:
        """(N,)"""
        attention = self._seeing(point)
        row = attention.call.rows(self.index, self._query_slot(attention), count)
        return row[attention.places(self.index, self._columns(self.seen.slots))]

    def text_attention(self, point: Point) -> Tensor:
        """(H, R, N)"""
        attention = self._seeing(point)
        slots = self.text_slots[self.text_slots > self.state.rows[self.index].slots[-1]]
        rows = attention.asking.home[self.index][self._columns(slots)].to(attention.call.key.device)
        places = attention.places(self.index, self._columns(self.seen.slots))
        return attention.call.map(self.index, rows).index_select(-1, places)

    def mean_logits(self, point: Point) -> Tensor:
        """(2, N)"""
        attention = self._latest(point)
        visual = self._columns(self.state.rows[self.index].slots)
        places, at = attention.places(self.index, visual), attention.asking.home[self.index]
        behind = self.text_slots[self.text_slots > self.state.rows[self.index].slots[-1]]
        asking = at[self._columns(behind)] if len(behind) else self._query_slot(attention)
        queries = at[visual]
        shown = torch.isin(visual, self._columns(self.seen.slots))
        gate = self.state.rows[self.index].gate
        return attention.call.mean_logits(self.index, queries, asking, places, gate)[:, shown.to(places.device)]

    def keys(self, point: Point, slots: Tensor) -> Tensor:
        """(n, H_kv, d) of the tokens at `slots` (n,)."""
        return self._latest(point).keys(self.index, self._columns(slots))

    def positions(self, slots: Tensor) -> Tensor:
        """(A, n) of the tokens at `slots` (n,)."""
        columns = self._columns(slots)
        if not isinstance(self._positions, torch.Tensor):
            return columns[None]
        given = self._positions if self._positions.ndim == 3 else self._positions[None]
        # Of four planes the first one counts the text alone, for masks.
        planes = given[-min(len(given), AXES) :]
        return planes[:, min(self.index, planes.shape[1] - 1)].index_select(1, columns.to(planes.device))

    def _latest(self, point: Point) -> LayerAttention:
        if self._attention is None:
            raise no_attention(point)
        return self._attention

    def _seeing(self, point: Point) -> LayerAttention:
        attention = self._latest(point)
        if not self.sees():
            raise _hidden_tokens(point, attention, self.layers)
        return attention

    def _query_slot(self, attention: LayerAttention) -> Tensor:
        return attention.asking.home[self.index].index_select(0, self._query_column.view(1))

    def _columns(self, slots: Tensor) -> Tensor:
        return self.state.columns[self.index][slots.to(self.state.columns.device)]


def span_of(row: VisualRow) -> VisualRow:
    """The row seen in the `span` scope: from its first to its last visual token, text in between included."""
    if len(row.geometry) == 0:
        return row
    slots = torch.arange(int(row.slots[0]), int(row.slots[-1]) + 1, device=row.slots.device)
    inside = torch.isin(slots, row.slots)
    fill = torch.full_like(slots, -1)
    geometry = Geometry(
        *(fill.masked_scatter(inside, part) for part in (row.geometry.kind, row.geometry.clip, row.geometry.frame)),
        *(fill.masked_scatter(inside, part) for part in (row.geometry.row, row.geometry.column, row.geometry.patch)),
    )
    size = torch.ones_like(slots, dtype=torch.float32).masked_scatter(inside, row.size)
    return VisualRow(geometry, slots, size, fill.masked_scatter(inside, row.origin), int(row.slots[0]))


def full_layers(config: Any, layers: int) -> list[int]:
    """Numbers of the layers whose attention reaches the whole prompt for sure. layers: how many there are."""
    named = next((kinds for kinds in (getattr(config, name, None) for name in KINDS) if kinds), None)
    if named is not None:
        return [number for number, kind in enumerate(named[:layers]) if kind in FULL]
    return [] if any(getattr(config, name, None) for name in WINDOWS) else list(range(layers))


def _hidden_tokens(point: Point, attention: LayerAttention, layers: int) -> MissingSignalError:
    """The error of a stage that asks for scores at `point`, where the attention does not see what they are about."""
    layer = attention.layer
    behind = [number + 1 for number in full_layers(attention.call.module.config, layers) if number + 1 < layers]
    nearest = sorted(behind, key=lambda number: (abs(number - layer - 1), -number))
    hint = (
        "no layer in front of another one reaches that far: "
        "take fewer frames, or a method that reads no attention, such as DivPrune"
    )
    if nearest:
        others = ", ".join(map(str, sorted(nearest[1:5])))
        hint = f"act before layer {nearest[0]}{f' (or {others})' if others else ''}, behind one that reaches all of it"
    return MissingSignalError(
        f"the attention of layer {layer}, which scores tokens {point}, does not reach all visual tokens",
        "it looks back over a window or a chunk of the prompt, and what lies outside would score zero",
        hint,
    )


def told(stage: Stage, rows: RowSignals) -> RowSignals:
    """The signals of the row, for a stage that said that it reads attention or keys."""
    if not reads_attention(stage):
        raise MissingSignalError(
            "the attention was not observed for this stage",
            "the stage did not say that it reads attention or keys",
            'name the signal in its `needs`, as in needs=frozenset({"attention"})',
        )
    return rows


def reads_attention(stage: Stage) -> bool:
    return bool(stage.needs & (SCORES | KEYS | LOGITS))
