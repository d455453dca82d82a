"""The prompt as the layers see it: a batch of rows that gets shorter at every plan. Tensors only, no modules."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from framefusion.layout import TEXT, Geometry
from framefusion.ops.weighted import Sums, runs_forward, weighted_rows, weighted_rows_
from framefusion.plan import GONE, Plan

if TYPE_CHECKING:
    from torch import Tensor

    from framefusion.layout import Layout


@dataclass(frozen=True)
class Row:
    """Visual tokens of one row that are alive.

    geometry: of the N tokens. slots: (N,) where they are in the current sequence. size: (N,) float32 originals carried.
    origin: (N,) number each token had in the row's layout. start: the first slot if no other slot lies between
    them, and text: slots in front of it that are not padding.
    """

    geometry: Geometry
    slots: Tensor
    size: Tensor
    origin: Tensor
    start: int | None = None
    text: int = 0

    def to(self, device: torch.device) -> Row:
        slots, size, origin = self.slots.to(device), self.size.to(device), self.origin.to(device)
        return Row(self.geometry.to(device), slots, size, origin, self.start, self.text)

    def states(self, hidden: Tensor) -> Tensor:
        """(K, D) states of the row -> (N, D) of its tokens, where they lie if they are neighbours."""
        if self.start is not None:
            return hidden[self.start : self.start + len(self.geometry)]
        return hidden.index_select(0, self.slots.to(hidden.device))


@dataclass(frozen=True)
class Stream:
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
    rows: tuple[Row, ...]
    lengths: tuple[int, ...]
    version: int = 0

    @property
    def length(self) -> int:
        return self.columns.shape[1]

    @staticmethod
    def begin(layout: Layout | None, batch: int, length: int, real: Tensor | None, device: torch.device) -> Stream:
        """real: (B, L) True where the prompt is not padding, None when nothing is."""
        # A visual token that the mask hides keeps its slot: plans number it, and the model's own mask still hides it.
        real = None if real is None else real.clone()
        columns = torch.arange(length, device=device).expand(batch, length)
        rows = []
        for number, (geometry, placement) in enumerate(layout.rows if layout is not None else ()):
            count = len(geometry)
            size = torch.ones(count, dtype=torch.float32, device=device)
            origin = torch.arange(count, device=device)
            start = _first_neighbour(placement.columns)
            if real is not None:
                real[number, placement.columns.to(real.device)] = True
            text = (start or 0) if real is None else int(real[number, :start].sum())
            rows.append(Row(geometry.to(device), placement.columns.to(device), size, origin, start, text))
        lengths = [length] * batch if real is None else real.sum(1).tolist()
        return Stream(columns, real, columns, tuple(rows), tuple(lengths))

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
    return hidden.reshape(-1, width).index_select(0, _flat(index.to(hidden.device), length)).view(batch, -1, width)


def _flat(index: Tensor, length: int) -> Tensor:
    """Slots (B, n) of rows of `length` slots -> (B * n,) places when the rows lie one after the other."""
    first = torch.arange(index.shape[0], device=index.device) * length
    return (index + first[:, None]).flatten()


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
    return Row(geometry, slots, size, fill.masked_scatter(inside, row.origin), int(row.slots[0]))


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
    sums: what the new slots hold of the old ones, all rows one after the other; None where nothing merges.
    """

    gather: Tensor
    cuts: tuple[Cut, ...]
    after: Stream
    sums: Sums | None

    def apply(self, hidden: Tensor) -> Tensor:
        """(B, K_old, D) -> (B, K_new, D), survivors holding their merged values. The input is left alone."""
        if self.sums is None:
            return rows_at(hidden, self.gather)
        short = weighted_rows(hidden.reshape(-1, hidden.shape[-1]), self.sums.to(hidden.device))
        return short.view(*self.gather.shape, -1)

    def apply_in_place(self, hidden: Tensor) -> Tensor:
        """The same where `hidden` may be overwritten: on a CPU its first part, and no new memory, holds the result."""
        sums = self.sums
        if sums is None or hidden.device.type != "cpu" or not hidden.is_contiguous() or not runs_forward(sums):
            return self.apply(hidden)
        flat = hidden.view(-1, hidden.shape[-1])
        return weighted_rows_(flat, sums.to(hidden.device)).view(*self.gather.shape, -1)

    def apply_to_visual(self, rows: Sequence[Tensor]) -> list[Tensor]:
        """Values of every row's visual tokens alone, (N, D) each -> (K, D) each."""
        by_row = {cut.number: cut for cut in self.cuts}
        return [by_row[i].apply_to_visual(values) if i in by_row else values for i, values in enumerate(rows)]


def reduce_stream(stream: Stream, plans: Sequence[tuple[Plan, Row] | None]) -> Step:
    """Apply one plan per row (None leaves the row alone); rows of unequal length are padded on the left.

    plans: for each row the plan and the row as its stage saw it (its scope decides which slots the plan acts on).
    """
    alive = torch.ones_like(stream.columns, dtype=torch.bool)
    lengths = list(stream.lengths)
    for number, entry in enumerate(plans):
        if entry is not None:
            plan, seen = entry
            alive[number, seen.slots] = False
            alive[number, seen.slots[plan.keep]] = True
            lengths[number] -= plan.count - plan.kept
    if tuple(lengths) == stream.lengths:
        gather, valid = _all_slots(stream), stream.valid
        new_slot = gather
    else:
        gather, valid, new_slot = _pad_left(alive if stream.valid is None else alive & stream.valid, lengths)
    cuts = tuple(
        Cut(number, plan, seen.slots, new_slot[number][seen.slots[plan.keep]], seen.geometry.kind != TEXT)
        for number, entry in enumerate(plans)
        if entry is not None
        for plan, seen in [entry]
    )
    home = _representatives(new_slot, gather.shape[1], cuts).gather(1, stream.home)
    padding = [gather.shape[1] - count if new_slot is not gather else None for count in lengths]
    rows = tuple(
        _reduce_row(row, entry, slots, pad)
        for row, entry, slots, pad in zip(stream.rows, plans, new_slot, padding, strict=False)
    )
    after = Stream(stream.columns.gather(1, gather), valid, home, rows, tuple(lengths), stream.version + 1)
    return Step(gather, cuts, after, _sums(gather, stream.length, cuts))


def _sums(gather: Tensor, length: int, cuts: Sequence[Cut]) -> Sums | None:
    """The merges of all rows as sums over B x K_old slots, one for each of B x K_new."""
    own = torch.ones(gather.numel(), device=gather.device)
    targets, sources, weights = [], [], []
    for cut in cuts:
        plan, first = cut.plan, cut.number * gather.shape[1]
        if plan.target is not None and plan.source is not None and plan.weight is not None and plan.own is not None:
            own[first + cut.new] = plan.own.to(own)
            targets.append(first + cut.new[plan.target])
            sources.append(cut.number * length + cut.old[plan.source])
            weights.append(plan.weight)
    if not targets:
        return None
    return Sums.of(_flat(gather, length), own, torch.cat(targets), torch.cat(sources), torch.cat(weights))


def _all_slots(stream: Stream) -> Tensor:
    return torch.arange(stream.length, device=stream.columns.device).expand_as(stream.columns)


def _pad_left(alive: Tensor, lengths: Sequence[int]) -> tuple[Tensor, Tensor | None, Tensor]:
    """Move the living slots of every row to the right end, in order.

    alive: (B, K_old), as many of each row as `lengths` says. Returns the old slots (B, K_new), their validity (None
    when no row needs padding), and the new slot of every old one (B, K_old), -1 for those that died.
    """
    longest = max(lengths)
    first = torch.tensor([longest - count for count in lengths], device=alive.device)[:, None]
    old = torch.arange(alive.shape[1], device=alive.device).expand_as(alive)
    new_slot = torch.where(alive, alive.cumsum(1) - 1 + first, -1)
    gather = torch.zeros(alive.shape[0], longest + 1, dtype=torch.long, device=alive.device)
    gather = gather.scatter(1, torch.where(alive, new_slot, longest), old)[:, :longest]
    if longest == min(lengths):
        return gather, None, new_slot
    return gather, torch.arange(longest, device=alive.device) >= first, new_slot


def _representatives(new_slot: Tensor, length: int, cuts: Sequence[Cut]) -> Tensor:
    """(B, K_old) new slot that stands for every old one: its own, its head's, the nearest earlier one's.

    length: K_new.
    """
    first = torch.where(new_slot >= 0, new_slot, length).min(1, keepdim=True).values.clamp(max=max(0, length - 1))
    earlier = new_slot.cummax(1).values
    stands = torch.where(earlier >= 0, earlier, first)
    for cut in cuts:
        if cut.plan.merges and cut.plan.kept:
            owner, row = cut.plan.owner, stands[cut.number]
            row[cut.old] = torch.where(owner == GONE, row[cut.old], cut.new[owner.clamp(min=0)])
    return stands


def _reduce_row(row: Row, entry: tuple[Plan, Row] | None, new_slot: Tensor, padding: int | None) -> Row:
    """padding: slots of padding that stand left of the row, None where every slot stays where it is."""
    start = row.start if row.start is None or padding is None else padding + row.text
    if entry is None:
        return Row(row.geometry, new_slot[row.slots], row.size, row.origin, start, row.text)
    plan, seen = entry
    slots, size = new_slot[seen.slots[plan.keep]], plan.sizes(seen.size)
    geometry, origin = seen.geometry[plan.keep], seen.origin[plan.keep]
    if seen is row:
        return Row(geometry, slots, size, origin, start, row.text)
    visual = (geometry.kind != TEXT).nonzero().flatten()
    return Row(geometry[visual], slots[visual], size[visual], origin[visual])
