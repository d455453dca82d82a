"""How long a call took, without making the host wait for the device."""

from __future__ import annotations

import time
from typing import Any

import torch


class Clock:
    """Wall time on the CPU, a pair of events on a GPU that are read only when somebody asks."""

    def __init__(self) -> None:
        self._events: tuple[Any, Any] | None = None
        self._started = 0.0
        self._seconds = 0.0

    def start(self, device: torch.device) -> None:
        if device.type == "cuda":
            self._events = (torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True))
            self._events[0].record()
        self._started = time.perf_counter()

    def stop(self) -> None:
        self._seconds = time.perf_counter() - self._started
        if self._events is not None:
            self._events[1].record()

    def milliseconds(self) -> float:
        if self._events is None:
            return self._seconds * 1e3
        self._events[1].synchronize()
        return self._events[0].elapsed_time(self._events[1])
