"""Divide seats among groups in proportion to their weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

ALMOST = 1e-4
"""A share this close below a whole number is that number: rounding must not cost a group its seat."""
DIGITS = 6


def apportion(weight: Tensor, room: Tensor, count: int) -> Tensor:
    """(G,) whole seats of the groups that sum to `count`, no group getting more than its `room`.

    weight: (G,) not negative. room: (G,) whole; `count` is at most its sum. Groups whose share exceeds their room get
    all of it and the others divide the rest: the whole part of each share, then one more for the heaviest.
    """
    heavy, device = weight.cpu().double(), room.device
    heavy = heavy / heavy.sum() if float(heavy.sum()) > 0.0 else torch.ones_like(heavy)
    room = room.cpu()
    seats, is_open = torch.zeros_like(room), torch.ones_like(room, dtype=torch.bool)
    while True:
        claim = _claims(heavy, is_open)
        share = claim * (count - int(seats.sum()))
        full = is_open & (share > room + ALMOST)
        if not bool(full.any()):
            break
        seats = torch.where(full, room, seats)
        is_open &= ~full
    seats = torch.where(is_open, (share + ALMOST).floor().long(), seats)
    order = torch.round(heavy, decimals=DIGITS).sort(descending=True, stable=True).indices
    waiting = order[(is_open & (seats < room))[order]]
    seats[waiting[: count - int(seats.sum())]] += 1
    return seats.to(device)


def _claims(weight: Tensor, is_open: Tensor) -> Tensor:
    """(G,) shares of the open groups that sum to 1; even where none of them has weight."""
    claim = torch.where(is_open, weight, 0.0)
    claim = claim if float(claim.sum()) > 0.0 else is_open.double()
    return claim / claim.sum().clamp(min=torch.finfo(torch.double).tiny)
