"""What learned reducers add to a reduction: states that they write, and how much each token counts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from framefusion.core.plan import Plan
    from framefusion.engine.sequence.cut import Cut
    from framefusion.engine.sequence.state import VisualRow

Rewrite = tuple[int, Tensor, Tensor]
"""Number of a row, its new slots (n,), and the states (n, D) that stand there."""


def rewrites_of(cuts: Sequence[Cut], new_slot: Tensor, text: Mapping[int, Tensor]) -> Iterator[Rewrite]:
    """Everything that learned reducers write.

    new_slot: (B, K_old) new slot of every old one. text: by row, old slots (M,) of the text whose states are rewritten.
    """
    for cut in cuts:
        learned = cut.plan.learned
        if learned is not None and learned.slots is not None and learned.values is not None:
            yield cut.number, cut.new[learned.slots.to(cut.new.device)], learned.values
        if learned is not None and learned.text is not None:
            yield cut.number, new_slot[cut.number][text[cut.number].to(new_slot.device)], learned.text


def rewritten(short: Tensor, rewrites: Sequence[Rewrite]) -> Tensor:
    """(B, K_new, D) with the states of `rewrites` in their slots."""
    for row, slots, states in rewrites:
        slots = slots.to(short.device)
        short = short.index_put((torch.full_like(slots, row), slots), states.to(short))
    return short


def gate_of(row: VisualRow, plan: Plan) -> Tensor | None:
    """(K,) how much each survivor counts in attention, None where all count in full."""
    before = None if row.gate is None else row.gate[plan.keep.to(row.gate.device)]
    own = None if plan.learned is None else plan.learned.gate
    if before is None or own is None:
        return before if own is None else own.to(torch.float32)
    return before * own.to(before)
