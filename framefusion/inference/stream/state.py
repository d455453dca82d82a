"""What a stream is between two windows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from framefusion.inference.stream.memory import Memory
from framefusion.inference.stream.positions import Clock

if TYPE_CHECKING:
    from torch import Tensor

    from framefusion.inference.stream.prompt import Frames

NOTHING, BEGINNING = Memory({}, {}), Clock()


@dataclass(frozen=True, eq=False)
class State:
    """A stream apart from the frames that wait. It is never changed: every window makes the next one.

    closing: (1, n, D) embeddings that close the clip and are read with each question. last: size and time of the last
    step, its pictures blank. begin: time of the first frame. windows, steps, columns: read so far. recent: of these
    steps, the latest that were read alone, for a question.
    """

    memory: Memory = NOTHING
    clock: Clock = BEGINNING
    closing: Tensor | None = None
    last: Frames | None = None
    begin: float = 0.0
    windows: int = 0
    steps: int = 0
    columns: int = 0
    recent: int = 0

    @property
    def lasting(self) -> int:
        """Steps that are no recent ones."""
        return self.steps - self.recent
