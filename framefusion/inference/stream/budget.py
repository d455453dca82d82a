"""How much a stream may remember, in tokens of each layer or in bytes of all."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from framefusion.core.errors import OptionError

if TYPE_CHECKING:
    from framefusion.inference.stream.memory import Memory

UNITS = {"": 1, "B": 1, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "KB": 10**3, "MB": 10**6, "GB": 10**9}
HINT = 'give tokens per layer, as in memory=4096, or bytes, as in memory="512MiB"'


@dataclass(frozen=True)
class Budget:
    """What a layer may hold. given: as the user said it, tokens of each layer or bytes of all."""

    given: int | str

    def __post_init__(self) -> None:
        parse(self.given)

    def tokens(self, memory: Memory) -> int:
        """Entries of each layer of `memory`, which holds some."""
        tokens, size = parse(self.given)
        if tokens is not None:
            return tokens
        assert size is not None
        per_entry = sum(layer.bytes / max(1, layer.count) for layer in memory.layers.values())
        return max(0, int((size - memory.bytes_of_states) / per_entry))


def parse(memory: int | str) -> tuple[int | None, int | None]:
    """(tokens, bytes) of which one is None. Raises OptionError."""
    if isinstance(memory, int) and not isinstance(memory, bool) and memory > 0:
        return memory, None
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", memory) if isinstance(memory, str) else None
    if found is None or found[2].upper() not in UNITS:
        raise OptionError(f"memory={memory!r} is no amount of memory", hint=HINT)
    amount = float(found[1]) * UNITS[found[2].upper()]
    if amount < 1:
        raise OptionError(f"memory={memory!r} holds nothing", hint=HINT)
    return (int(amount), None) if not found[2] else (None, int(amount))
