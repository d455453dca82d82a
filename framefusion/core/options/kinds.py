"""The types an option can have: which values they take, how words are read as them, and what they are called.

`take` returns the plain Python value, `read` that of a word on a command line; both raise ValueError.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, Protocol

from framefusion.core.options.limits import LARGEST, Interval, Limits, OneOf

NUMPY = {("numpy", "bool"), ("numpy", "bool_")}
TRUTH = {"true": True, "on": True, "yes": True, "1": True, "false": False, "off": False, "no": False, "0": False}

ANY_WHOLE, ANY_NUMBER = Interval(f"[{-LARGEST}, {LARGEST}]"), Interval("(-inf, inf)")


class Kind(Protocol):
    def take(self, value: Any) -> Any: ...

    def read(self, text: str) -> Any: ...

    def to_dict(self) -> dict[str, Any]:
        """Type and limits as JSON values."""


@dataclass(frozen=True)
class Whole:
    """int: any integer that is no boolean, numpy's included."""

    limits: Limits = ANY_WHOLE

    def take(self, value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, Integral):
            raise ValueError
        number = int(value)
        endless = isinstance(self.limits, Interval) and self.limits.high == math.inf
        if number not in self.limits or (endless and number > LARGEST):
            raise ValueError
        return number

    def read(self, text: str) -> int:
        if not re.fullmatch("[+-]?[0-9]{1,19}", text):
            raise ValueError
        return self.take(int(text))

    def __str__(self) -> str:
        return _called(self.limits, "whole number")

    def to_dict(self) -> dict[str, Any]:
        return {"type": "int", **self.limits.to_dict()}


@dataclass(frozen=True)
class Number:
    """float: any finite real number, integers and numpy's included."""

    limits: Limits = ANY_NUMBER

    def take(self, value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, Real):
            raise ValueError
        try:
            number = float(value)
        except OverflowError as error:
            raise ValueError from error
        if not math.isfinite(number) or number not in self.limits:
            raise ValueError
        return number

    def read(self, text: str) -> float:
        if not text.isascii() or "_" in text:
            raise ValueError
        return self.take(float(text))

    def __str__(self) -> str:
        return _called(self.limits, "number")

    def to_dict(self) -> dict[str, Any]:
        return {"type": "float", **self.limits.to_dict()}


@dataclass(frozen=True)
class Truth:
    """bool, numpy's included; in words true, on, yes, 1 and their opposites."""

    def take(self, value: Any) -> bool:
        if not isinstance(value, bool) and (type(value).__module__, type(value).__name__) not in NUMPY:
            raise ValueError
        return bool(value)

    def read(self, text: str) -> bool:
        if text.lower() not in TRUTH:
            raise ValueError
        return TRUTH[text.lower()]

    def __str__(self) -> str:
        return "true or false"

    def to_dict(self) -> dict[str, Any]:
        return {"type": "bool"}


@dataclass(frozen=True)
class Word:
    """str."""

    choices: OneOf | None = None

    def take(self, value: Any) -> str:
        if not isinstance(value, str) or (self.choices is not None and value not in self.choices):
            raise ValueError
        return str(value)

    def read(self, text: str) -> str:
        return self.take(text)

    def __str__(self) -> str:
        return "a text" if self.choices is None else str(self.choices)

    def to_dict(self) -> dict[str, Any]:
        return {"type": "str", **({} if self.choices is None else self.choices.to_dict())}


@dataclass(frozen=True)
class Nothing:
    """None."""

    def take(self, value: Any) -> None:
        if value is not None:
            raise ValueError

    def read(self, text: str) -> None:
        if text.lower() not in ("none", "null"):
            raise ValueError

    def __str__(self) -> str:
        return "none"

    def to_dict(self) -> dict[str, Any]:
        return {"type": "none"}


@dataclass(frozen=True)
class Several:
    """tuple[X, ...] of at least one: a list is taken too; in words `8,16,24`, in brackets or not."""

    kinds: tuple[Kind, ...]

    def take(self, value: Any) -> tuple[Any, ...]:
        if not isinstance(value, tuple | list) or not value:
            raise ValueError
        return tuple(first_of(self.kinds, "take", part) for part in value)

    def read(self, text: str) -> tuple[Any, ...]:
        inside = text[1:-1] if (text[:1], text[-1:]) in (("[", "]"), ("(", ")")) else text
        return tuple(first_of(self.kinds, "read", part.strip()) for part in inside.split(","))

    def __str__(self) -> str:
        return f"a list, each {any_of(self.kinds)}"

    def to_dict(self) -> dict[str, Any]:
        return {"type": "list", "each": [kind.to_dict() for kind in self.kinds]}


@dataclass(frozen=True)
class Instance:
    """An object of a class; no word stands for one."""

    cls: type

    def take(self, value: Any) -> Any:
        if not isinstance(value, self.cls):
            raise ValueError
        return value

    def read(self, text: str) -> Any:
        raise ValueError

    def __str__(self) -> str:
        return f"of type {self.cls.__name__}"

    def to_dict(self) -> dict[str, Any]:
        return {"type": self.cls.__name__}


@dataclass(frozen=True)
class Anything:
    """What is declared in a way that says nothing at run time. A word is a number if it can be."""

    def take(self, value: Any) -> Any:
        return value

    def read(self, text: str) -> Any:
        try:
            return first_of((Whole(), Number(), Truth()), "read", text)
        except ValueError:
            return text

    def __str__(self) -> str:
        return "anything"

    def to_dict(self) -> dict[str, Any]:
        return {"type": "any"}


def first_of(kinds: Sequence[Kind], how: str, value: Any) -> Any:
    """What the first kind that takes (or reads) `value` makes of it. Raises ValueError if none does."""
    # A whole number is a number, too: it must be asked first.
    for kind in sorted(kinds, key=lambda kind: not isinstance(kind, Whole)):
        try:
            return getattr(kind, how)(value)
        except ValueError:
            continue
    raise ValueError


def any_of(kinds: Sequence[Kind]) -> str:
    """In words, none first."""
    return " or ".join(map(str, sorted(kinds, key=lambda kind: not isinstance(kind, Nothing))))


def _called(limits: Limits, noun: str) -> str:
    return str(limits) if isinstance(limits, OneOf) else f"a {limits.noun or noun} {limits}"
