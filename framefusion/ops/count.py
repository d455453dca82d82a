"""From a budget to a number of tokens."""

from __future__ import annotations

from collections.abc import Callable

from framefusion.errors import OptionError

Keep = float | int


def check_keep(keep: Keep, name: str = "keep") -> None:
    """`keep` is a fraction in (0, 1] or a count of at least 1. Raises OptionError."""
    whole = isinstance(keep, int) and not isinstance(keep, bool)
    if isinstance(keep, bool) or not (keep >= 1 if whole else 0.0 < keep <= 1.0):
        raise OptionError(f"{name} must be a fraction in (0, 1] or a count of at least 1, got {keep!r}")


def kept_count(keep: Keep, total: int, rounding: Callable[[float], float] = round) -> int:
    """Tokens to keep of `total`: at least 1, at most all. rounding: round, int or math.ceil, as the paper has it."""
    wanted = keep if isinstance(keep, int) else int(rounding(keep * total))
    return max(1, min(total, wanted))
