"""Nothing is forgotten: for streams that fit, and as the measure of all others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from framefusion.inference.stream.policies.policy import Entries, Kept, Policy, everything


@dataclass(frozen=True)
class Everything(Policy):
    """Keeps every entry, whatever the budget."""

    def compress(self, layers: Sequence[Entries], budget: int) -> list[Kept]:
        return [everything(entries) for entries in layers]
