"""What values of a type an option takes: an interval, or one of a few."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from math import inf
from typing import Any

LARGEST = 2**31 - 1
"""Largest whole number where an interval of them has no end: no prompt, model or file has more of anything."""

_PATTERN = re.compile(r"([(\[])(\S+), (\S+)([)\]])")


@dataclass(frozen=True)
class Interval:
    """Numbers between two bounds, as mathematics writes it: "(0, 1]", "[1, inf)".

    noun: what such a number is called, by default "number" or "whole number". why: the reason for the bounds.
    """

    text: str
    noun: str = ""
    why: str = ""
    low: float = field(init=False, repr=False)
    high: float = field(init=False, repr=False)

    def __post_init__(self) -> None:
        found = _PATTERN.fullmatch(self.text)
        if found is None:
            raise ValueError(f"{self.text!r} is no interval")
        for name, bound in (("low", found[2]), ("high", found[3])):
            object.__setattr__(self, name, float(bound) if set(bound) & set(".ef") else int(bound))

    def __contains__(self, value: float) -> bool:
        above = value >= self.low if self.text[0] == "[" else value > self.low
        return above and (value <= self.high if self.text[-1] == "]" else value < self.high)

    def __str__(self) -> str:
        if self.high < inf:
            return f"in {self.text}"
        if self.low == -inf:
            return "that is finite"
        return f"of at least {self.low:g}" if self.text[0] == "[" else f"above {self.low:g}"

    def to_dict(self) -> dict[str, Any]:
        return {"range": self.text}


@dataclass(frozen=True, init=False)
class OneOf:
    """One of these values. why: what is special about them."""

    values: tuple[Any, ...]
    noun: str
    why: str

    def __init__(self, *values: Any, why: str = "") -> None:
        object.__setattr__(self, "values", values)
        object.__setattr__(self, "noun", "")
        object.__setattr__(self, "why", why)

    def __contains__(self, value: Any) -> bool:
        return value in self.values

    def __str__(self) -> str:
        *first, last = map(str, self.values)
        return f"{', '.join(first)} or {last}" if first else last

    def to_dict(self) -> dict[str, Any]:
        return {"choices": list(self.values)}


Limits = Interval | OneOf
