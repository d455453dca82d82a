"""Which units of a clip are encoded, told by their pixels: those that changed since they were last encoded.

A unit is the patches that make one visual token. Comparing with the last encoded unit at the same place, not with the
frame before, keeps a slow fade from vanishing: its change adds up until it counts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

Rule = Callable[[Tensor, Tensor], Tensor]
"""(units (U, D), the last encoded ones (U, D)) -> their change (U,); 0 for units that are equal."""

SEARCH_STEPS = 20


@dataclass(frozen=True)
class Encoding:
    """Which units are encoded.

    encoded: (T, U) bool. shows: (T, U) long, the frame whose encoding stands for each unit: its own where encoded, else
    the last one before in which its place was.
    """

    encoded: Tensor
    shows: Tensor

    @property
    def share(self) -> float:
        """Encoded units over all."""
        return float(self.encoded.float().mean()) if self.encoded.numel() else 1.0

    @staticmethod
    def of(encoded: Tensor) -> Encoding:
        """encoded: (T, U) bool, True in the first frame."""
        frame = torch.arange(encoded.shape[0], device=encoded.device)[:, None]
        return Encoding(encoded, torch.where(encoded, frame, 0).cummax(0).values)

    @staticmethod
    def everything(frames: int, units: int) -> Encoding:
        return Encoding.of(torch.ones(frames, units, dtype=torch.bool))


def mean_change(units: Tensor, encoded: Tensor) -> Tensor:
    """Mean absolute difference over a unit's values: (U, D), (U, D) -> (U,)."""
    return (units - encoded).abs().mean(-1)


def encode_changed(
    frames: Sequence[Tensor] | Tensor, threshold: float | Tensor, refresh: int | None = None, rule: Rule = mean_change
) -> Encoding:
    """Encode a unit when it changed by more than `threshold` since its place was last encoded.

    frames: T times (U, D) pixels on [0, 1], read once and in order. threshold: a number, or (U,) one for each place.
    refresh: frames after which any change counts. The first frame is encoded; a unit without change never is.
    """
    anchor: Tensor | None = None
    rows: list[Tensor] = []
    for units in frames:
        if anchor is None:
            anchor = units.clone()
            age = torch.zeros(len(units), dtype=torch.long, device=units.device)
            rows.append(torch.ones(len(units), dtype=torch.bool, device=units.device))
            continue
        change = rule(units, anchor)
        due = change > threshold
        age += 1
        if refresh is not None:
            due |= (age >= refresh) & (change > 0)
        anchor[due] = units[due]
        age.masked_fill_(due, 0)
        rows.append(due)
    return Encoding.of(torch.stack(rows))


def encode_share(
    frames: Sequence[Tensor] | Tensor, count: int, refresh: int | None = None, rule: Rule = mean_change
) -> Encoding:
    """Encode at most `count` units, by the smallest threshold found that does not exceed it.

    The first frame is encoded whole, whatever `count` says, and so is what `refresh` renews.
    """
    known = [units for units in frames]
    if count >= sum(len(units) for units in known):
        return Encoding.everything(len(known), len(known[0]))
    low, high = 0.0, 1.0
    best = encode_changed(known, high, refresh, rule)
    for _ in range(SEARCH_STEPS):
        middle = (low * high) ** 0.5 if low > 0 else high / 4
        found = encode_changed(known, middle, refresh, rule)
        if int(found.encoded.sum()) > count:
            low = middle
        else:
            high, best = middle, found
        if high < 1e-6 or (low > 0 and high / low < 1.01):
            break
    return best
