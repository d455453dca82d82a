"""How much a stream may remember, in tokens of each layer or in bytes of all."""

from __future__ import annotations

import re

from framefusion.core.errors import OptionError

UNITS = {"": 1, "B": 1, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "KB": 10**3, "MB": 10**6, "GB": 10**9}
HINT = 'give tokens per layer, as in memory=4096, or bytes, as in memory="512MiB"'


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
