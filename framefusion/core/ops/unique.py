"""Uniqueness: frames that repeat the one before, tokens of a frame that are like few others (UniComp)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from framefusion.core.ops.budget import apportion
from framefusion.core.ops.selection import picked_apart

if TYPE_CHECKING:
    from torch import Tensor

# Likenesses that agree to so many decimals tie.
DECIMALS = 5


def repeated_frames(unit: Tensor, distance: float, longest: int) -> Tensor:
    """(F,) ascending number of the group of each frame: one joins as long as it is like the first of the group.

    unit: (F, D) of length one. distance: cosine distance up to which two frames are alike. longest: frames in a group.
    """
    alike = ((1.0 - unit @ unit.T) <= distance).tolist()
    first, groups = 0, [0]
    for frame in range(1, len(alike)):
        joins = alike[frame][first] and frame - first < longest
        first = first if joins else frame
        groups.append(groups[-1] + (not joins))
    return torch.tensor(groups, device=unit.device)


@dataclass(frozen=True)
class Ranking:
    """Tokens of one frame.

    order: (n,) unique ones first, each with few tokens like it before those with many. unique: how many these are.
    likeness: (n, n) cosines. alike: (n, n) bool, whether two are alike; each is like itself.
    """

    order: Tensor
    unique: int
    likeness: Tensor
    alike: Tensor


def ranked(unit: Tensor, distance: float) -> Ranking:
    """Greedily, a token is unique unless it is like one that was found unique before.

    unit: (n, D) of length one or zero. distance: cosine distance below which two tokens are alike.
    """
    likeness = torch.round(unit @ unit.T, decimals=DECIMALS)
    alike = (1.0 - likeness < distance).fill_diagonal_(True)
    order = torch.round(likeness.mean(1), decimals=DECIMALS).sort(stable=True).indices
    unique = picked_apart(alike[order][:, order])
    return Ranking(torch.cat([order[unique], order[~unique]]), int(unique.sum()), likeness, alike)


def seats_by_uniqueness(unit: Tensor, size: Tensor, unique: Tensor, count: int) -> Tensor:
    """(G,) tokens of each frame that stay, `count` in all; a frame that is unlike the others gets more.

    unit: (G, D) means of the frames, of length one. size, unique: (G,) tokens, and unique ones. No frame gets more than
    its unique tokens or twice the mean as long as others have unique ones left.
    """
    likeness = torch.round((unit @ unit.T).mean(1), decimals=DECIMALS)
    weight = ((likeness.mean() - likeness) * len(unit) ** 0.5).softmax(0)
    seats = torch.zeros_like(size)
    for room in (unique.clamp(max=max(1, 2 * (count // len(unit)))), unique, size):
        free = room - seats
        seats = seats + apportion(weight, free, min(count - int(seats.sum()), int(free.sum())))
    return seats
