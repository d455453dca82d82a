"""The prompt as the layers see it: a batch of rows that gets shorter at every plan. Tensors only, no modules."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from framefusion.core.layout import Geometry

if TYPE_CHECKING:
    from torch import Tensor

    from framefusion.core.layout import Layout


@dataclass(frozen=True)
class VisualRow:
    """Visual tokens of one row that are alive.

    geometry: of the N tokens. slots: (N,) where they are in the current sequence. size: (N,) float32 originals carried.
    origin: (N,) number each token had in the row's layout. start: the first slot if no other slot lies between
    them, and text: slots in front of it that are not padding. gate: (N,) float32 how much each counts in attention,
    with gradients; None where all count in full.
    """

    geometry: Geometry
    slots: Tensor
    size: Tensor
    origin: Tensor
    start: int | None = None
    text: int = 0
    gate: Tensor | None = None

    def to(self, device: torch.device) -> VisualRow:
        slots, size, origin = self.slots.to(device), self.size.to(device), self.origin.to(device)
        return VisualRow(self.geometry.to(device), slots, size, origin, self.start, self.text, self.gate)

    def states(self, hidden: Tensor) -> Tensor:
        """(K, D) states of the row -> (N, D) of its tokens, where they lie if they are neighbours."""
        if self.start is not None:
            return hidden[self.start : self.start + len(self.geometry)]
        return hidden.index_select(0, self.slots.to(hidden.device))


@dataclass(frozen=True)
class SequenceState:
    """State of one forward pass's sequence after the plans so far. K is the current length, L that of the prompt.

    columns: (B, K) prompt column of every slot.
    valid: (B, K) False for padding; None when no slot is padding.
    home: (B, L) slot that stands for each prompt column: its own, its survivor's, or the nearest earlier survivor's.
    lengths: slots of each row that are not padding.
    version: number of plans applied; 0 means the sequence is the prompt itself.
    """

    columns: Tensor
    valid: Tensor | None
    home: Tensor
    rows: tuple[VisualRow, ...]
    lengths: tuple[int, ...]
    version: int = 0

    @property
    def length(self) -> int:
        return self.columns.shape[1]

    @staticmethod
    def begin(
        layout: Layout | None, batch: int, length: int, real: Tensor | None, device: torch.device
    ) -> SequenceState:
        """real: (B, L) True where the prompt is not padding, None when nothing is."""
        columns = torch.arange(length, device=device).expand(batch, length)
        real = None if real is None else real.clone()
        rows = []
        for number, (geometry, placement) in enumerate(layout.rows if layout is not None else ()):
            count = len(geometry)
            size = torch.ones(count, dtype=torch.float32, device=device)
            origin = torch.arange(count, device=device)
            start = _first_neighbour(placement.columns)
            if real is not None:
                # A visual token that the mask hides keeps its slot: plans number it, and the model still hides it.
                real[number, placement.columns.to(real.device)] = True
            text = (start or 0) if real is None else int(real[number, :start].sum())
            rows.append(VisualRow(geometry.to(device), placement.columns.to(device), size, origin, start, text))
        lengths = [length] * batch if real is None else real.sum(1).tolist()
        return SequenceState(columns, real, columns, tuple(rows), tuple(lengths))

    def visual_counts(self) -> list[int]:
        return [len(row.geometry) for row in self.rows]

    def expand_to_prompt(self, hidden: Tensor) -> Tensor:
        """(B, K, D) -> (B, L, D): every prompt column shows the state of the slot that stands for it."""
        return rows_at(hidden, self.home)

    def living_columns(self) -> list[list[int]]:
        """Prompt columns of each row that still have a slot of their own, padding left out."""
        if self.valid is None:
            return self.columns.tolist()
        return [columns[real].tolist() for columns, real in zip(self.columns, self.valid, strict=True)]

    def removed_columns(self) -> Tensor:
        """(B, L) True at prompt columns that no slot carries as its own any more."""
        alive = torch.zeros_like(self.home, dtype=torch.bool)
        valid = torch.ones_like(self.columns, dtype=torch.bool) if self.valid is None else self.valid
        return ~alive.scatter(1, self.columns, valid)


def _first_neighbour(columns: Tensor) -> int | None:
    """The first of ascending (N,) columns if nothing lies between them."""
    if not columns.numel():
        return None
    first, last = int(columns[0]), int(columns[-1])
    return first if last - first + 1 == columns.numel() else None


def rows_at(hidden: Tensor, index: Tensor) -> Tensor:
    """(B, K, D) at slots (B, n) -> (B, n, D)."""
    batch, length, width = hidden.shape
    # Whole rows: `gather` would look every number up by itself, and its backward would keep `hidden` alive.
    return hidden.reshape(-1, width).index_select(0, flat_slots(index.to(hidden.device), length)).view(batch, -1, width)


def flat_slots(index: Tensor, length: int) -> Tensor:
    """Slots (B, n) of rows of `length` slots -> (B * n,) places when the rows lie one after the other."""
    first = torch.arange(index.shape[0], device=index.device) * length
    return (index + first[:, None]).flatten()
