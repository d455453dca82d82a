"""From a budget to numbers of tokens: of a prompt, of each layer, of each group."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Literal

import torch

from framefusion.core.options import Keep

if TYPE_CHECKING:
    from torch import Tensor


def kept_count(keep: Keep, total: int, rounding: Callable[[float], float] = round) -> int:
    """Tokens to keep of `total`: at least 1, at most all. rounding: round, int or math.ceil, as the paper has it."""
    wanted = keep if isinstance(keep, int) else int(rounding(keep * total))
    return max(1, min(total, wanted))


def removable_share(removed: Sequence[float], cost: float, layers: int) -> float:
    """Share of the current tokens to remove so that the mean over all layers meets `cost` (FrameFusion, section 3.3).

    removed: share of tokens taken out at each call so far; after call i its survivors are what layer i reads.
    cost: mean fraction of the visual tokens that a layer reads, (0, 1].
    layers: decoder layers of the model.
    Returns a share in [0, 1]; 1 when the layers that ran have already spent more than the budget.
    """
    left, spent = 1.0, 0.0
    for share in removed:
        left *= 1.0 - share
        spent += left
    open_layers = layers - len(removed)
    if open_layers <= 0 or left <= 0.0:
        return 0.0
    return min(1.0, max(0.0, 1.0 - (layers * cost - spent) / (open_layers * left)))


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


Variant = Literal["exact", "llava_onevision", "llava_video"]


@dataclass(frozen=True)
class Division:
    """Tokens of each frame that attention chooses (`salient`) and that others merge into (`context`).

    missing: of each segment, context tokens that find no place in an anchor frame.
    """

    salient: tuple[int, ...]
    context: tuple[int, ...]
    missing: tuple[int, ...]


def divide(
    budget: Sequence[int], size: Sequence[int], segment: Sequence[int], share: float, every: int, variant: Variant
) -> Division:
    """Context tokens are `share` of the budget and lie in anchor frames: a segment's last, and every `every`th before.

    budget, size: tokens to keep and tokens there are, of each frame. segment: ascending number of each frame's segment.
    variant: "exact" gives out the whole budget. "llava_onevision" and "llava_video" round as the code published for
    these models: the first drops what does not divide among anchor frames; the second takes the share of the segment
    instead of each frame, and what does not divide goes to the first frames and to the last anchor frames.
    """
    salient, context, missing = [0] * len(budget), [0] * len(budget), []
    for _, group in groupby(range(len(budget)), key=lambda frame: segment[frame]):
        frames = list(group)
        total = sum(budget[frame] for frame in frames)
        if variant == "llava_video":
            kept = _spread(total - int(total * share), len(frames))
        else:
            kept = [budget[frame] - int(budget[frame] * share) for frame in frames]
        for frame, count in zip(frames, kept, strict=True):
            salient[frame] = min(count, size[frame])
        anchors = frames[::-1][::every][::-1]
        room, wanted = [size[frame] - salient[frame] for frame in anchors], total - sum(kept)
        for frame, count in zip(anchors, _seats(room, wanted, variant), strict=True):
            context[frame] = count
        missing.append(max(0, wanted - sum(room)) if variant == "exact" else 0)
    return Division(tuple(salient), tuple(context), tuple(missing))


def _seats(room: Sequence[int], wanted: int, variant: Variant) -> list[int]:
    if variant == "exact":
        return _dealt(room, min(wanted, sum(room)))
    even = _spread(wanted, len(room))[::-1]
    if variant == "llava_onevision":
        even = [wanted // len(room)] * len(room)
    return [min(pair) for pair in zip(even, room, strict=True)]


def _spread(count: int, groups: int) -> list[int]:
    """`count` in equal parts, the first ones one more where it does not divide."""
    return [count // groups + int(number < count % groups) for number in range(groups)]


def _dealt(room: Sequence[int], count: int) -> list[int]:
    """`count` in parts as equal as `room` allows, the first ones one more where it does not divide."""
    seats, open_ = [0] * len(room), list(range(len(room)))
    while count:
        open_ = [number for number in open_ if seats[number] < room[number]]
        for number, more in zip(open_, _spread(count, len(open_)), strict=True):
            more = min(more, room[number] - seats[number])
            seats[number], count = seats[number] + more, count - more
    return seats
