"""A memory of bounded size that forgets what was not asked for the longest."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, TypeVar

Value = TypeVar("Value")


class Newest(Generic[Value]):
    """Values by key, the newest ones. most: how many are kept; None for all.

    Example:
        >>> newest = Newest(most=2)
        >>> for key in "abc":
        ...     _ = newest.keep(key, key.upper())
        >>> newest.get("a"), newest.get("c")
        (None, 'C')
    """

    def __init__(self, most: int | None) -> None:
        self.most = most
        self._values: dict[Hashable, Value] = {}

    def __len__(self) -> int:
        return len(self._values)

    def get(self, key: Hashable) -> Value | None:
        """The value of `key`, which becomes the newest; None where it is not known, or not any more."""
        return self.keep(key, self._values.pop(key)) if key in self._values else None

    def keep(self, key: Hashable, value: Value) -> Value:
        """`value`, which is kept as the newest of all."""
        self._values.pop(key, None)
        self._values[key] = value
        while self.most is not None and len(self._values) > self.most:
            del self._values[next(iter(self._values))]
        return value
