"""Checks of the numbers a caller passes."""

from __future__ import annotations

import math
import operator
from typing import Any

from ..errors import OptionError


def whole(name: str, value: Any, least: int) -> int:
    """`value` as an int of at least `least`, or OptionError."""
    try:
        number = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = None
    if number is None or number < least:
        raise OptionError(f"{name}={value!r} is not valid", f"{name} is a whole number of at least {least}")
    return number


def rate(name: str, value: Any) -> float:
    """`value` as a positive, finite number, or OptionError."""
    try:
        number = math.nan if isinstance(value, (bool, str, bytes)) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not (math.isfinite(number) and number > 0):
        raise OptionError(f"{name}={value!r} is not valid", f"{name} is a positive, finite number")
    return number
