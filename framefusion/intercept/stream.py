"""The prompt as the layers see it: a batch of rows that gets shorter at every plan. Tensors only, no modules."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from framefusion.layout import TEXT, Geometry
from framefusion.plan import GONE, Plan

if TYPE_CHECKING:
    from torch import Tensor

    from framefusion.layout import Layout


@dataclass(frozen=True)
class Row:
    """Visual tokens of one row that are alive.

    geometry: of the N tokens. slots: (N,) where they are in the current sequence. size: (N,) float32 originals carried.
    origin: (N,) number each token had in the row's layout.
    """

    geometry: Geometry
    slots: Tensor
    size: Tensor
    origin: Tensor

    def to(self, device: torch.device) -> Row:
        return Row(self.geometry.to(device), self.slots.to(device), self.size.to(device), self.origin.to(device))


@dataclass(frozen=True)
class Stream:
    """State of one forward pass's sequence after the plans so far. K is the current length, L that of the prompt.

    columns: (B, K) prompt column of every slot.
    valid: (B, K) False for padding; None when no slot is padding.
    home: (B, L) slot that stands for each prompt column: its own, its survivor's, or the nearest earlier survivor's.
    version: number of plans applied; 0 means the sequence is the prompt itself.
    """

    columns: Tensor
    valid: Tensor | None
    home: Tensor
    rows: tuple[Row, ...]
    version: int = 0

    @property
    def length(self) -> int:
        return self.columns.shape[1]

    @staticmethod
    def begin(layout: Layout | None, batch: int, length: int, real: Tensor | None, device: torch.device) -> Stream:
        """real: (B, L) True where the prompt is not padding, None when nothing is."""
        columns = torch.arange(length, device=device).expand(batch, length)
        rows = []
        for geometry, placement in layout.rows if layout is not None else ():
            count = len(geometry)
            size = torch.ones(count, dtype=torch.float32, device=device)
            origin = torch.arange(count, device=device)
            rows.append(Row(geometry.to(device), placement.columns.to(device), size, origin))
        return Stream(columns, real, columns, tuple(rows))

    def visual_counts(self) -> list[int]:
        return [len(row.geometry) for row in self.rows]

    def expand_to_prompt(self, hidden: Tensor) -> Tensor:
        """(B, K, D) -> (B, L, D): every prompt column shows the state of the slot that stands for it."""
        home = self.home.to(hidden.device)
        return hidden.gather(1, home.unsqueeze(-1).expand(-1, -1, hidden.shape[-1]))

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


def span_of(row: Row) -> Row:
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
    return Row(geometry, slots, size, fill.masked_scatter(inside, row.origin))


@dataclass(frozen=True)
class Cut:
    """The plan of one row, placed in the sequence.

    old: (N,) slots the plan acts on. new: (K,) slots of its survivors afterwards. visual: (N,) False for text in the
        `span` scope.
    """

    number: int
    plan: Plan
    old: Tensor
    new: Tensor
    visual: Tensor

    def apply_to_visual(self, values: Tensor) -> Tensor:
        """Values of the row's visual tokens alone, (N_visual, D) -> (K_visual, D)."""
        device = values.device
        plan, visual = self.plan.to(device), self.visual.to(device)
        spread = values.new_zeros(plan.count, values.shape[-1])
        spread[visual] = values
        return plan.apply(spread)[visual[plan.keep]]


@dataclass(frozen=True)
class Step:
    """One reduction of a stream.

    gather: (B, K_new) old slot of every new one; padding repeats some slot. after: the stream that results.
    """

    gather: Tensor
    cuts: tuple[Cut, ...]
    after: Stream

    def shorten(self, hidden: Tensor) -> Tensor:
        """(B, K_old, D) -> (B, K_new, D) without merging."""
        # Not `gather`: its backward keeps the very tensor the survivors are written into, a cycle nobody frees.
        index = self.gather.to(hidden.device)
        row = torch.arange(index.shape[0], device=hidden.device)[:, None]
        return hidden[row, index]

    def apply(self, hidden: Tensor) -> Tensor:
        """(B, K_old, D) -> (B, K_new, D), survivors holding their merged values. The input is left alone."""
        short = self.shorten(hidden)
        for cut in self.cuts:
            if cut.plan.merges:
                slots, values = self._merged(cut, hidden)
                short[cut.number, cut.new.to(hidden.device)[slots]] = values
        return short

    def apply_to_visual(self, rows: Sequence[Tensor]) -> list[Tensor]:
        """Values of every row's visual tokens alone, (N, D) each -> (K, D) each."""
        by_row = {cut.number: cut for cut in self.cuts}
        return [by_row[i].apply_to_visual(values) if i in by_row else values for i, values in enumerate(rows)]

    def _merged(self, cut: Cut, hidden: Tensor) -> tuple[Tensor, Tensor]:
        tokens = hidden[cut.number].index_select(0, cut.old.to(hidden.device))
        return cut.plan.to(hidden.device).merged(tokens)


def reduce_stream(stream: Stream, plans: Sequence[tuple[Plan, Row] | None]) -> Step:
    """Apply one plan per row (None leaves the row alone); rows of unequal length are padded on the left.

    plans: for each row the plan and the row as its stage saw it (its scope decides which slots the plan acts on).
    """
    alive = torch.ones_like(stream.columns, dtype=torch.bool)
    for number, entry in enumerate(plans):
        if entry is not None:
            plan, seen = entry
            alive[number, seen.slots] = False
            alive[number, seen.slots[plan.keep]] = True
    if bool(alive.all()):
        gather, valid = _all_slots(stream), stream.valid
        new_slot = gather
    else:
        gather, valid, new_slot = _pad_left(alive if stream.valid is None else alive & stream.valid)
    cuts = tuple(
        Cut(number, plan, seen.slots, new_slot[number][seen.slots[plan.keep]], seen.geometry.kind != TEXT)
        for number, entry in enumerate(plans)
        if entry is not None
        for plan, seen in [entry]
    )
    home = _representatives(new_slot, cuts).gather(1, stream.home)
    rows = tuple(_reduce_row(row, entry, slots) for row, entry, slots in zip(stream.rows, plans, new_slot, strict=True))
    after = Stream(stream.columns.gather(1, gather), valid, home, rows, stream.version + 1)
    return Step(gather, cuts, after)


def _all_slots(stream: Stream) -> Tensor:
    return torch.arange(stream.length, device=stream.columns.device).expand_as(stream.columns)


def _pad_left(alive: Tensor) -> tuple[Tensor, Tensor | None, Tensor]:
    """Move the living slots of every row to the right end, in order.

    alive: (B, K_old). Returns the old slots (B, K_new), their validity (None when no row needs padding), and the new
    slot of every old one (B, K_old), -1 for those that died.
    """
    count = alive.sum(1)
    longest, shortest = (int(n) for n in torch.stack([count.max(), count.min()]).tolist())
    old = torch.arange(alive.shape[1], device=alive.device).expand_as(alive)
    new_slot = torch.where(alive, alive.cumsum(1) - 1 + (longest - count)[:, None], -1)
    gather = torch.zeros(alive.shape[0], longest + 1, dtype=torch.long, device=alive.device)
    gather = gather.scatter(1, torch.where(alive, new_slot, longest), old)[:, :longest]
    if longest == shortest:
        return gather, None, new_slot
    slot = torch.arange(longest, device=alive.device)
    return gather, slot >= (longest - count)[:, None], new_slot


def _representatives(new_slot: Tensor, cuts: Sequence[Cut]) -> Tensor:
    """(B, K_old) new slot that stands for every old one: a survivor's own, its head's, the nearest earlier one's."""
    beyond = int(new_slot.max()) + 1
    first = torch.where(new_slot >= 0, new_slot, beyond).min(1, keepdim=True).values.clamp(max=max(0, beyond - 1))
    earlier = new_slot.cummax(1).values
    stands = torch.where(earlier >= 0, earlier, first)
    for cut in cuts:
        if cut.plan.merges:
            joined = cut.plan.owner != GONE
            stands[cut.number, cut.old[joined]] = cut.new[cut.plan.owner[joined]]
    return stands


def _reduce_row(row: Row, entry: tuple[Plan, Row] | None, new_slot: Tensor) -> Row:
    if entry is None:
        return Row(row.geometry, new_slot[row.slots], row.size, row.origin)
    plan, seen = entry
    slots, size = new_slot[seen.slots[plan.keep]], plan.sizes(seen.size)
    geometry, origin = seen.geometry[plan.keep], seen.origin[plan.keep]
    visual = (geometry.kind != TEXT).nonzero().flatten()
    return Row(geometry[visual], slots[visual], size[visual], origin[visual])
