"""From a budget to a number of tokens."""

from __future__ import annotations

from collections.abc import Callable

from framefusion.options import Keep


def kept_count(keep: Keep, total: int, rounding: Callable[[float], float] = round) -> int:
    """Tokens to keep of `total`: at least 1, at most all. rounding: round, int or math.ceil, as the paper has it."""
    wanted = keep if isinstance(keep, int) else int(rounding(keep * total))
    return max(1, min(total, wanted))
