"""Shorten a sequence by one plan per row: which slots stay, what merges into what, who stands for whom."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from framefusion.core.layout import TEXT
from framefusion.core.ops.weighted import Sums, runs_forward, weighted_rows, weighted_rows_
from framefusion.core.plan import GONE, Plan
from framefusion.engine.sequence.cut import Cut
from framefusion.engine.sequence.learned import Rewrite, gate_of, rewrites_of, rewritten
from framefusion.engine.sequence.state import SequenceState, VisualRow, flat_slots, rows_at

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class ReductionStep:
    """One reduction of a state.

    gather: (B, K_new) old slot of every new one; padding repeats some slot. after: the state that results.
    sums: what the new slots hold of the old ones, all rows one after the other; None where nothing merges.
    rewrites: what learned reducers put into it.
    """

    gather: Tensor
    cuts: tuple[Cut, ...]
    after: SequenceState
    sums: Sums | None
    rewrites: tuple[Rewrite, ...] = ()

    def apply(self, hidden: Tensor) -> Tensor:
        """(B, K_old, D) -> (B, K_new, D), survivors holding their merged values. The input is left alone."""
        if self.sums is None:
            return rewritten(rows_at(hidden, self.gather), self.rewrites)
        short = weighted_rows(hidden.reshape(-1, hidden.shape[-1]), self.sums.to(hidden.device))
        return rewritten(short.view(*self.gather.shape, -1), self.rewrites)

    def apply_in_place(self, hidden: Tensor) -> Tensor:
        """The same where `hidden` may be overwritten: on a CPU its first part, and no new memory, holds the result."""
        sums = self.sums
        if sums is None or hidden.device.type != "cpu" or not hidden.is_contiguous() or not runs_forward(sums):
            return self.apply(hidden)
        flat = hidden.view(-1, hidden.shape[-1])
        short = weighted_rows_(flat, sums.to(hidden.device)).view(*self.gather.shape, -1)
        return rewritten(short, self.rewrites)

    def apply_to_visual(self, rows: Sequence[Tensor]) -> list[Tensor]:
        """Values of every row's visual tokens alone, (N, D) each -> (K, D) each."""
        by_row = {cut.number: cut for cut in self.cuts}
        return [by_row[i].apply_to_visual(values) if i in by_row else values for i, values in enumerate(rows)]


def reduce_sequence(
    state: SequenceState, plans: Sequence[tuple[Plan, VisualRow] | None], text: Mapping[int, Tensor] | None = None
) -> ReductionStep:
    """Apply one plan per row (None leaves the row alone); rows of unequal length are padded on the left.

    plans: for each row the plan and the row as its stage saw it (its scope decides which slots the plan acts on).
    text: by row, slots (M,) of the text whose states its plan rewrites.
    """
    alive = torch.ones_like(state.columns, dtype=torch.bool)
    lengths = list(state.lengths)
    for number, entry in enumerate(plans):
        if entry is not None:
            plan, seen = entry
            alive[number, seen.slots] = False
            alive[number, seen.slots[plan.keep]] = True
            lengths[number] -= plan.count - plan.kept
    if tuple(lengths) == state.lengths:
        gather, valid = _all_slots(state), state.valid
        new_slot = gather
    else:
        gather, valid, new_slot = _pad_left(alive if state.valid is None else alive & state.valid, lengths)
    cuts = tuple(
        Cut(number, plan, seen.slots, new_slot[number][seen.slots[plan.keep]], seen.geometry.kind != TEXT)
        for number, entry in enumerate(plans)
        if entry is not None
        for plan, seen in [entry]
    )
    home = _representatives(new_slot, gather.shape[1], cuts).gather(1, state.home)
    padding = [gather.shape[1] - count if new_slot is not gather else None for count in lengths]
    rows = tuple(
        _reduce_row(row, entry, slots, pad)
        for row, entry, slots, pad in zip(state.rows, plans, new_slot, padding, strict=False)
    )
    after = SequenceState(state.columns.gather(1, gather), valid, home, rows, tuple(lengths), state.version + 1)
    rewrites = tuple(rewrites_of(cuts, new_slot, text or {}))
    return ReductionStep(gather, cuts, after, _sums(gather, state.length, cuts), rewrites)


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
    return Sums.of(flat_slots(gather, length), own, torch.cat(targets), torch.cat(sources), torch.cat(weights))


def _all_slots(state: SequenceState) -> Tensor:
    return torch.arange(state.length, device=state.columns.device).expand_as(state.columns)


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


def _reduce_row(
    row: VisualRow, entry: tuple[Plan, VisualRow] | None, new_slot: Tensor, padding: int | None
) -> VisualRow:
    """padding: slots of padding that stand left of the row, None where every slot stays where it is."""
    start = row.start if row.start is None or padding is None else padding + row.text
    if entry is None:
        return VisualRow(row.geometry, new_slot[row.slots], row.size, row.origin, start, row.text, row.gate)
    plan, seen = entry
    slots, size = new_slot[seen.slots[plan.keep]], plan.sizes(seen.size)
    geometry, origin = seen.geometry[plan.keep], seen.origin[plan.keep]
    if seen is row:
        return VisualRow(geometry, slots, size, origin, start, row.text, gate_of(seen, plan))
    visual = (geometry.kind != TEXT).nonzero().flatten()
    return VisualRow(geometry[visual], slots[visual], size[visual], origin[visual])
