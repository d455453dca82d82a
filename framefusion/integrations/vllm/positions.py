"""Survivors keep the three-part positions (M-RoPE) they have in the unreduced prompt.

The engine fixes the positions of a prompt before its videos and pictures are encoded, when nobody knows which tokens
survive. The slots of each first hold their base in disguise, -(base + 1), and every row of its embeddings carries its
own offset from that base in extra columns. The engine hands both to `fill` when the rows are used. A filled slot is no
longer negative, so filling twice, after a preemption for instance, does no harm.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

DIGIT = 256
"""bfloat16 holds the whole numbers up to here exactly, so offsets travel as digits."""
DIGITS = 3
COLUMNS = 3 * DIGITS


def disguise(base: Tensor, count: int) -> Tensor:
    """(3,) base -> (3, count) negative stand-ins."""
    return -(base[:, None] + 1).expand(3, count)


def append_offsets(rows: Tensor, offsets: Tensor) -> Tensor:
    """rows: (K, C). offsets: (3, K) whole, below 256 ** 3. Returns (K, C + COLUMNS) of the dtype of `rows`."""
    rest, digits = offsets.T.to(torch.long), []
    for _ in range(DIGITS):
        digits.append(rest % DIGIT)
        rest = rest // DIGIT
    return torch.cat([rows, torch.cat(digits, 1).to(rows)], 1)


def split_offsets(rows: Tensor) -> tuple[Tensor, Tensor]:
    """The inverse: rows (K, C) and offsets (3, K)."""
    digits = rows[:, -COLUMNS:].to(torch.long).view(-1, DIGITS, 3)
    weight = torch.tensor([DIGIT**number for number in range(DIGITS)], device=rows.device)
    return rows[:, :-COLUMNS], (digits * weight[None, :, None]).sum(1).T


def fill(positions: Tensor, slots: Tensor, offsets: Sequence[Tensor]) -> tuple[Tensor, int]:
    """Positions with the slots of the given rows filled, and what is added to a later token's number.

    positions: (3, L) of the prompt. slots: (S,) ascending numbers of all slots from the first row's on. offsets: (3, k)
    of each item's rows, in prompt order, n <= S in all.
    """
    if offsets:
        given = torch.cat(list(offsets), 1).to(positions.device)
        slots = slots[: given.shape[1]]
        held = positions[:, slots]
        positions = positions.clone()
        positions[:, slots] = torch.where(held < 0, given.to(held.dtype) - held - 1, held)
    length = positions.shape[1]
    last = positions[:, -1].max()
    # A prompt may end with a video; the largest position is then inside it.
    return positions, int((last if last >= 0 else positions.max()) + 1 - length)
