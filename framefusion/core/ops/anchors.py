"""Anchors that take in other tokens by optimal transport, in their frame and along time (AOT)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from framefusion.core.ops.matching import nearest
from framefusion.core.ops.selection import highest
from framefusion.core.ops.similarity import unit_rows
from framefusion.core.ops.transport import transport

if TYPE_CHECKING:
    from torch import Tensor

WINDOWS = 3
"""Windows along each side of a picture."""
PLACE = 0.5
"""What the distance of two opposite sides costs, where one minus the cosine costs one."""
NEAREST = 0.1
"""Share of the mean of an anchor and the tokens nearest to it; the rest is what transport brings."""
SPREAD = 1.5
"""Frames after which time has little left to add to the cost."""
DECIMALS = 5


def window_numbers(row: Tensor, column: Tensor) -> Tensor:
    """(N,) number of the window, of three by three, each cell lies in; all are in one where a token has no cell."""
    if bool((row < 0).any()):
        return torch.zeros_like(row)
    down, right = (part * WINDOWS // (part.max() + 1) for part in (row, column))
    return down * WINDOWS + right


def places(row: Tensor, column: Tensor) -> Tensor:
    """(N, 2) place of each cell in a picture whose sides have length one; zero without cells."""
    sides = [part.clamp(min=0) / part.max().clamp(min=1) for part in (row, column)]
    return torch.stack(sides, 1).float()


@dataclass(frozen=True)
class Frame:
    """What one frame becomes.

    token: (m,) anchors. share: (m, N) of each of the scene's tokens in their values. near: (N,) anchor nearest to each
    token of the frame, by its place in `token`; -1 for tokens of other frames.
    """

    token: Tensor
    share: Tensor
    near: Tensor

    @staticmethod
    def of(values: Tensor, place: Tensor, inside: Tensor, is_anchor: Tensor) -> Frame:
        """Anchors take in the rest of their frame.

        values: (N, D) of a scene. place: (N, 2) of each cell, sides of length one. inside, is_anchor: (N,) bool.
        """
        token, rest = (inside & is_anchor).nonzero().flatten(), (inside & ~is_anchor).nonzero().flatten()
        near = torch.full((len(values),), -1, device=values.device)
        share = values.new_zeros(len(token), len(values))
        if not len(token):
            return Frame(token, share, near)
        line = torch.arange(len(token), device=values.device)
        near[token], share[line, token] = line, 1.0
        if len(rest):
            unit = unit_rows(values)
            cost = 1.0 - unit[rest] @ unit[token].T + PLACE * torch.cdist(place[rest], place[token])
            moved = transport(cost)
            near[rest] = nearest(unit[rest], unit[token])
            joined = (near[rest][:, None] == line).to(values)
            by_transport = _taken(share, moved, rest)
            share = NEAREST * _taken(share, joined, rest) + (1.0 - NEAREST) * by_transport
        return Frame(token, share, near)


def _taken(share: Tensor, moved: Tensor, rest: Tensor) -> Tensor:
    """(m, N) shares after mass has moved from the tokens `rest` (n,) to m anchors of mass one. moved: (n, m)."""
    mass = share.clone()
    mass[:, rest] += moved.T
    return mass / mass.sum(1, keepdim=True)


def along_time(values: Tensor, frames: Sequence[Frame], kept: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
    """The first frame's anchors take in those of the others that fit them best.

    values: (N, D) of a scene. frames: its frames. kept: anchors of each frame that stay; all of the first do.
    Returns (K,) tokens that stay, (K, N) shares in their values, and (N,) token that stands for each, -1 for none.
    """
    first = frames[0]
    share, tokens, shares = first.share, [first.token], []
    stands = torch.full((len(values),), -1, device=values.device)
    _name(stands, first, first.token)
    for after, (frame, count) in enumerate(zip(frames[1:], kept[1:], strict=True), 1):
        if not len(frame.token) or not len(first.token):
            continue
        likeness = unit_rows(frame.share @ values) @ unit_rows(share @ values).T
        away = 1.0 - torch.exp(torch.tensor(-(after**2) / (2 * SPREAD**2)))
        plan = transport((likeness.max() - likeness) * away.to(likeness))
        part = plan / plan.sum(1, keepdim=True)
        fit = torch.round(part.amax(1), decimals=DECIMALS)
        stays = torch.zeros_like(fit, dtype=torch.bool).index_fill(0, highest(-fit, count), True)
        going = part * ~stays[:, None]
        share = (share + going.T @ frame.share) / (1.0 + going.sum(0))[:, None]
        rounded = torch.round(part, decimals=DECIMALS)
        best = (rounded == rounded.amax(1, keepdim=True)).int().argmax(1)
        _name(stands, frame, torch.where(stays, frame.token, first.token[best]))
        tokens.append(frame.token[stays])
        shares.append(frame.share[stays])
    return torch.cat(tokens), torch.cat([share, *shares]), stands


def _name(stands: Tensor, frame: Frame, heads: Tensor) -> None:
    """heads: (m,) token that stands for each anchor of the frame, and for those nearest to it."""
    inside = frame.near >= 0
    stands[inside] = heads[frame.near[inside]]
