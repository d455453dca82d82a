"""Which units of a clip are encoded, told by their pixels: those that changed since they were last encoded.

A unit is the patches that make one visual token. Comparing with the last encoded unit at the same place, not with the
frame before, keeps a slow fade from vanishing: its change adds up until it counts.

Change is measured on cells of some seven pixels, which leaves out the noise of a codec, relative to the contrast of the
unit, since a flat unit shows a change that texture would hide. Half of what changed around a unit since it was encoded
counts, too: its features have seen its surroundings.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

CELL = 7
FLAT = 0.1
AROUND = 0.5
LARGEST = 1.0 / FLAT
SEARCH_STEPS = 24
CLOSE = 1.02
"""A threshold is found when the next one that encodes too much is this near."""


@dataclass(frozen=True)
class Encoding:
    """Which units of a clip are encoded, and what stands for the others.

    encoded: (T, U) bool. shows: (T, U) long, the frame whose encoding stands for each unit: its own where encoded, else
    the last one before in which its place was. following: (T, U) long, the next frame in which it is, `shows` where
    there is none. weight: (T, U) float32, share of the following one where the two are blended.
    """

    encoded: Tensor
    shows: Tensor
    following: Tensor
    weight: Tensor

    @property
    def share(self) -> float:
        """Encoded units over all."""
        return float(self.encoded.float().mean()) if self.encoded.numel() else 1.0

    @staticmethod
    def of(encoded: Tensor) -> Encoding:
        """Nothing is blended. encoded: (T, U) bool, True in the first frame."""
        frame = torch.arange(encoded.shape[0], device=encoded.device)[:, None]
        shows = torch.where(encoded, frame, 0).cummax(0).values
        later = torch.where(encoded, frame, encoded.shape[0]).flip(0).cummin(0).values.flip(0)
        following = torch.where(later < encoded.shape[0], later, shows)
        return Encoding(encoded, shows, following, torch.zeros(encoded.shape, device=encoded.device))

    @staticmethod
    def everything(frames: int, units: int) -> Encoding:
        """Every unit of every frame."""
        return Encoding.of(torch.ones(frames, units, dtype=torch.bool))


@dataclass(frozen=True)
class Look:
    """What is compared of the units of a clip.

    cells: (T, U, F, V) averages. contrast: (T, U) their spread. around: (U, 9) each unit and those around it, those
    beyond the border being itself. share: (U, 9) what the change of each counts.
    """

    cells: Tensor
    contrast: Tensor
    around: Tensor
    share: Tensor

    @staticmethod
    def of(frames: Sequence[Tensor] | Tensor, grid: tuple[int, int]) -> Look:
        """frames: T times (U, F, C, s, s) pixels on [0, 1] of F pictures each, read once and in order. grid: rows and
        columns of the U units.
        """
        cells = torch.stack([_cells(units) for units in frames])
        contrast = cells.std(-1, correction=0).mean((-1, -2))
        around, share = _surroundings(grid)
        return Look(cells.flatten(3), contrast, around.to(cells.device), share.to(cells.device))

    def change(self, frame: int, other: Tensor, unit: Tensor | None = None) -> Tensor:
        """(n,) change of units, with their surroundings, from a frame of its own, `other` (n,) long, to `frame`.

        unit: (n,) long, which units; None for all.
        """
        around, share = (part if unit is None else part[unit] for part in (self.around, self.share))
        then = other[:, None]
        difference = (self.cells[frame][around] - self.cells[then, around]).square().mean((-1, -2)).sqrt()
        contrast = torch.minimum(self.contrast[frame][around], self.contrast[then, around])
        return (difference / (contrast + FLAT) * share).sum(-1)


def _cells(units: Tensor) -> Tensor:
    """(U, F, C, s, s) -> (U, F, C, n * n) means of squares of some CELL pixels."""
    side = units.shape[-1]
    count = max(1, side // CELL)
    edges = torch.arange(count + 1, device=units.device) * side // count
    pixel = torch.arange(side, device=units.device)
    inside = ((pixel >= edges[:-1, None]) & (pixel < edges[1:, None])).to(units.dtype)
    mean = inside / inside.sum(1, keepdim=True)
    return (mean @ units @ mean.T).flatten(3)


def _surroundings(grid: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """(U, 9) the units around each, and (U, 9) the weight of each, 1 in all."""
    own = torch.arange(grid[0] * grid[1])
    padded = F.pad(own.view(1, *grid), (1, 1, 1, 1), value=-1)[0]
    shifts = [(down, right) for down in range(3) for right in range(3)]
    around = torch.stack([padded[d : d + grid[0], r : r + grid[1]].flatten() for d, r in shifts], 1)
    share = (around >= 0).float()
    share = AROUND * share / share.sum(1, keepdim=True)
    share[:, 4] += 1.0
    return torch.where(around < 0, own[:, None], around), share / (1.0 + AROUND)


def encode_changed(
    frames: Sequence[Tensor] | Tensor | Look,
    grid: tuple[int, int],
    threshold: float | Tensor,
    refresh: int | None = None,
) -> Encoding:
    """Encode a unit when it changed by more than `threshold` since its place was last encoded.

    frames, grid: as for `Look.of`. threshold: a number, or (U,) one for each place.
    refresh: frames after which any change counts. The first frame is encoded; one that repeats its places never is.
    """
    look = frames if isinstance(frames, Look) else Look.of(frames, grid)
    return blended(look, Encoding.of(_due(look, threshold, refresh)))


def _due(look: Look, threshold: float | Tensor, refresh: int | None) -> Tensor:
    """(T, U) bool, which units are encoded."""
    shown = torch.zeros_like(look.contrast[0], dtype=torch.long)
    rows = [torch.ones_like(shown, dtype=torch.bool)]
    for frame in range(1, len(look.contrast)):
        change = look.change(frame, shown)
        due = change > threshold
        if refresh is not None:
            due = due | ((frame - shown >= refresh) & (change > 0))
        shown = torch.where(due, frame, shown)
        rows.append(due)
    return torch.stack(rows)


def blended(look: Look, made: Encoding) -> Encoding:
    """With weights: the nearer a unit is to the following encoding, against the last one, the more it takes of it."""
    weight = torch.zeros(made.shows.shape, device=made.shows.device)
    for frame, (shows, following) in enumerate(zip(made.shows, made.following, strict=True)):
        unit = ((shows < frame) & (following > frame)).nonzero()[:, 0]
        last, ahead = (look.change(frame, other[unit], unit) for other in (shows, following))
        weight[frame, unit] = last / (last + ahead).clamp(min=1e-12)
    return Encoding(made.encoded, made.shows, made.following, weight)


def encode_share(
    frames: Sequence[Tensor] | Tensor,
    grid: tuple[int, int],
    count: int,
    refresh: int | None = None,
    threshold: float = 0.0,
) -> Encoding:
    """Encode at most `count` units, by the smallest threshold found, from `threshold` on, that does not exceed it.

    The first frame is encoded whole, whatever `count` says, and so is what `refresh` renews. Others as for
    `encode_changed`.
    """
    look = Look.of(frames, grid)
    if count >= look.contrast.numel():
        return Encoding.everything(*look.contrast.shape)
    low, high = threshold, LARGEST
    best = _due(look, low, refresh) if low else None
    if best is None or int(best.sum()) > count:
        best = _due(look, high, refresh)
        for _ in range(SEARCH_STEPS):
            middle = (low * high) ** 0.5 if low > 0 else high / 8
            found = _due(look, middle, refresh)
            if int(found.sum()) > count:
                low = middle
            else:
                high, best = middle, found
            if high < 1e-6 or (low > 0 and high / low < CLOSE):
                break
    return blended(look, Encoding.of(best))


def encode_distinct(frames: Sequence[Tensor] | Tensor) -> Encoding:
    """Encode a frame whole unless it repeats the last encoded one to the bit. frames: as for `Look.of`."""
    last: Tensor | None = None
    rows = []
    for units in frames:
        new = last is None or not torch.equal(units, last)
        last = units if new else last
        rows.append(torch.full((len(units),), new, device=units.device))
    return Encoding.of(torch.stack(rows))
