"""Choose by score so that rounding does not decide: prompt order settles ties."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch

from framefusion.ops.count import kept_count
from framefusion.options import Keep

if TYPE_CHECKING:
    from torch import Tensor

SLACK = 1e-6
"""Scores of unit scale this close to each other are a tie: float32 cannot tell them apart on every device."""


def highest(score: Tensor, count: int) -> Tensor:
    """(count,) indices of the highest of (N,) scores, best first, earlier tokens first among equals."""
    return score.sort(descending=True, stable=True).indices[:count]


def first_highest(score: Tensor, slack: float = SLACK) -> Tensor:
    """(1,) index of the first of the (N,) scores that is within `slack` of the highest."""
    return (score >= score.max() - slack).int().argmax(0, keepdim=True)


def highest_per_group(score: Tensor, group: Tensor, keep: Keep, rounding: Callable[[float], float] = round) -> Tensor:
    """Indices of the highest scores of every group, `keep` of each: a share or a number, at least one token.

    score: (N,). group: (N,) equal for the members of a group. rounding: as in `kept_count`.
    """
    picks = []
    for number in group.unique():
        members = (group == number).nonzero().flatten()
        picks.append(members[highest(score[members], kept_count(keep, len(members), rounding))])
    return torch.cat(picks)
