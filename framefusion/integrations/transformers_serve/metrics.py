"""A page of counters for Prometheus, under the names of the other engine: transformers' server has none itself."""

from __future__ import annotations

from threading import Lock

from framefusion.integrations.vllm.metrics import KEPT, NAME, READ

TYPE = "text/plain; version=0.0.4; charset=utf-8"
HEAD = f"# HELP {NAME}_total Visual tokens of requests, without the reduction ({READ}) and with it ({KEPT}).\n"


class Counters:
    """Of all models of one server."""

    def __init__(self) -> None:
        self._lock, self._totals = Lock(), {READ: 0, KEPT: 0}

    def add(self, read: int, kept: int) -> None:
        """The visual tokens of one request, before and behind the last layer."""
        with self._lock:
            self._totals[READ] += read
            self._totals[KEPT] += kept

    def page(self) -> str:
        with self._lock:
            lines = [f'{NAME}_total{{stage="{stage}"}} {count}\n' for stage, count in self._totals.items()]
        return "".join([HEAD, f"# TYPE {NAME}_total counter\n", *lines])
