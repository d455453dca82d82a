"""Whole frames spread over the stream so far: the control that remembers everything a little."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from framefusion.inference.stream.policies.policy import Entries, Kept, Policy

FINEST = 62


@dataclass(frozen=True)
class Uniform(Policy):
    """Thins out the frames: those with odd numbers go first, the oldest of them before the others, then every second
    of the rest, and so on. What stays does not depend on when it was thinned out.
    """

    def keep(self, entries: Entries, budget: int) -> Kept:
        frames = entries.frame[0]
        numbers, inverse, counts = frames[entries.protected :].unique(return_inverse=True, return_counts=True)
        order = sorted(range(len(numbers)), key=lambda at: halvings(int(numbers[at])), reverse=True)
        fits = counts[order].cumsum(0) <= budget - entries.protected
        staying = torch.zeros_like(numbers, dtype=torch.bool)
        staying[torch.tensor(order, device=numbers.device)[fits]] = True
        first = torch.ones(entries.protected, dtype=torch.bool, device=numbers.device)
        return Kept(torch.cat([first, staying[inverse]]).nonzero().flatten()[None])


def halvings(frame: int) -> tuple[int, int]:
    """How often a frame's number can be halved, then the number: the larger, the longer it stays."""
    return ((frame & -frame).bit_length() - 1 if frame else FINEST, frame)
