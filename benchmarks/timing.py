"""Time of variants that take turns, so that a busy machine is busy for all of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch

Laps = dict[str, float]
"""Milliseconds by part."""


class Watch:
    """Milliseconds since the last lap, the device's work included."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.lap()

    def lap(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        now = time.perf_counter()
        passed = (now - getattr(self, "_last", now)) * 1e3
        self._last = now
        return passed


@dataclass(frozen=True)
class Spread:
    """Median with 20th and 80th percentile of `repeats` times in milliseconds, and these times round by round."""

    median_ms: float
    p20_ms: float
    p80_ms: float
    repeats: int
    times_ms: tuple[float, ...]

    @staticmethod
    def of(times: list[float]) -> Spread:
        ordered = torch.tensor(times, dtype=torch.float64)
        low, high = torch.quantile(ordered, torch.tensor([0.2, 0.8], dtype=torch.float64)).tolist()
        rounds = tuple(round(one, 3) for one in times)
        return Spread(round(median(times), 4), round(low, 4), round(high, 4), len(times), rounds)


def take_turns(
    variants: Mapping[str, Callable[[], Laps]], repeats: int, tick: Callable[[str], Any], warm: bool = False
) -> dict[str, dict[str, list[float]]]:
    """Times by variant and part of `repeats` rounds, each beginning with another variant.

    warm: all have run before, so no untimed round comes first.
    """
    names = list(variants)
    times: dict[str, dict[str, list[float]]] = {name: {} for name in names}
    for name in [] if warm else names:
        tick(f"{name}, warming up")
        variants[name]()
    for number in range(repeats):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            tick(f"{name}, {number + 1} of {repeats}")
            for part, milliseconds in variants[name]().items():
                times[name].setdefault(part, []).append(milliseconds)
    return times
