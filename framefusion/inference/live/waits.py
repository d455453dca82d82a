"""How long a source is waited for, and how to end a wait."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field


@dataclass
class Waits:
    """patience: seconds without a frame after which a source is said to stall. give_up: after which it has ended.

    stop: set when nobody wants frames any more.
    """

    patience: float
    give_up: float
    stop: threading.Event = field(default_factory=threading.Event)

    def sleep(self, seconds: float) -> bool:
        """Whether to go on afterwards."""
        return not self.stop.wait(seconds)


class Since:
    """Seconds since something came."""

    def __init__(self) -> None:
        self.came()

    def came(self) -> None:
        self._at = time.monotonic()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._at
