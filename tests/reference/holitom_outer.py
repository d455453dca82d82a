"""HoliTom's outer stage step by step, in float64, for one clip, from its specification."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from tests.reference.divprune import cosine
from tests.reference.prunevid import clusters


def partitions(frames: int, gain: dict[tuple[int, int], int]) -> tuple[int, list[tuple[int, int]]]:
    """The most that windows over the first `frames` frames save, and those windows; of equals the shortest last one."""
    if frames == 0:
        return 0, []
    found: tuple[int, list[tuple[int, int]]] = (-1, [])
    for start in reversed(range(frames)):
        saved, windows = partitions(start, gain)
        if saved + gain[start, frames] > found[0]:
            found = saved + gain[start, frames], [*windows, (start, frames)]
    return found


def holitom_outer(
    hidden: Tensor, frame: list[int], patch: list[int], attention: Tensor, share: float, tau: float, beta: float
) -> dict[int, Tensor]:
    """Survivors of one clip and their values."""
    rows, frames = hidden.double(), max(frame) + 1
    at = {(f, p): i for i, (f, p) in enumerate(zip(frame, patch, strict=True))}

    def stands(p: int, start: int, stop: int) -> bool:
        """Whether place p is there in all frames of the window and looks alike in each two neighbours."""
        if any((f, p) not in at for f in range(start, stop)):
            return False
        return all(min(1.0, cosine(rows[at[f, p]], rows[at[f + 1, p]])) > tau for f in range(start, stop - 1))

    def static_places(start: int, stop: int) -> list[int]:
        return [p for p in sorted(set(patch)) if stands(p, start, stop)] if stop - start > 1 else []

    gain = {(a, b): len(static_places(a, b)) * (b - a - 1) for b in range(1, frames + 1) for a in range(b)}
    saved, windows = partitions(frames, gain)
    share = min(1.0, share / (1 - saved / len(rows)))
    values: dict[int, Tensor] = {}
    for start, stop in windows:
        static = static_places(start, stop)
        if static:
            means = [torch.stack([rows[at[f, p]] for f in range(start, stop)]).mean(0) for p in static]
            wanted = min(len(static), max(1, round(share * len(static))))
            centres, label = clusters(means, wanted, min(7, wanted))
            for slot, centre in enumerate(centres):
                others = [means[i] for i in range(len(means)) if label[i] == slot and i != centre]
                value = means[centre]
                if others:
                    value = beta * value + (1 - beta) * torch.stack(others).mean(0)
                values[at[start, static[centre]]] = value
        for f in range(start, stop):
            dynamic = [i for i in range(len(rows)) if frame[i] == f and patch[i] not in static]
            wanted = min(len(dynamic), math.ceil(share * len(dynamic)))
            for i in sorted(dynamic, key=lambda token: -float(attention[token]))[:wanted]:
                values[i] = rows[i]
    return dict(sorted(values.items()))
