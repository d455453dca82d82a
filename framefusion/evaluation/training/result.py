"""What came of one training."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from framefusion.core.method import Method


@dataclass(frozen=True)
class Training:
    """What came of it. folder: of the reducer, of the adapter in it, and of the card. method: trained.

    losses: (step, loss) as logged. scores: of the card, empty where none was asked for.
    """

    folder: Path
    method: Method
    trainable: int
    losses: list[tuple[int, float]]
    scores: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "out": str(self.folder),
            "method": {"name": self.method.facts.name, **self.method.options()},
            "trainable": self.trainable,
            "losses": [{"step": step, "loss": loss} for step, loss in self.losses],
            "scores": self.scores,
        }
