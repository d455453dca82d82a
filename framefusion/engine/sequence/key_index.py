"""Which prompt columns the entries of a key-value layer had, and how many tokens each stands for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, eq=False)
class KeyIndex:
    """Entries of one layer, S per row.

    columns: (B, S) prompt column of each entry, ascending among the valid ones.
    valid: (B, S) False for entries that pad a shorter row; None when there are none.
    size: (B, S) float32 original tokens each entry counts for in attention; None where each counts once.
    """

    columns: Tensor
    valid: Tensor | None
    size: Tensor | None = None

    @property
    def length(self) -> int:
        return self.columns.shape[1]

    @cached_property
    def log_size(self) -> Tensor | None:
        """(B, S) float32, None where each entry counts once."""
        return None if self.size is None else self.size.log()

    @staticmethod
    def range(batch: int, length: int, device: torch.device) -> KeyIndex:
        """An unreduced layer: one entry per column."""
        return KeyIndex(torch.arange(length, device=device).expand(batch, length), None)

    def append(self, other: KeyIndex) -> KeyIndex:
        if self.length == 0:  # an emptied layer forgets its batch size too
            return other
        device = self.columns.device
        valid = size = None
        if self.valid is not None or other.valid is not None:
            valid = torch.cat([self._validity(), other._validity().to(device)], 1)
        if self.size is not None or other.size is not None:
            size = torch.cat([self._sizes(), other._sizes().to(device)], 1)
        return KeyIndex(torch.cat([self.columns, other.columns.to(device)], 1), valid, size)

    def _validity(self) -> Tensor:
        return torch.ones_like(self.columns, dtype=torch.bool) if self.valid is None else self.valid

    def _sizes(self) -> Tensor:
        return torch.ones_like(self.columns, dtype=torch.float32) if self.size is None else self.size

    def first(self, count: int) -> KeyIndex:
        return self._slice(0, count)

    def last(self, count: int) -> KeyIndex:
        return self._slice(self.length - count, self.length) if count < self.length else self

    def _slice(self, start: int, stop: int) -> KeyIndex:
        return self._each(lambda part: part[:, start:stop])

    def nothing(self) -> KeyIndex:
        return self.first(0)

    def pick_rows(self, rows: Tensor) -> KeyIndex:
        rows = rows.to(self.columns.device)
        return self._each(lambda part: part[rows])

    def _each(self, of: Callable[[Tensor], Tensor]) -> KeyIndex:
        valid = None if self.valid is None else of(self.valid)
        return KeyIndex(of(self.columns), valid, None if self.size is None else of(self.size))

    def count_before(self, column: int) -> int | None:
        """Entries to keep so that only columns below `column` stay; None when rows disagree."""
        beyond = ((self.columns >= column) & self._validity()).sum(1)
        if bool((beyond != beyond[0]).any()):
            return None
        return self.length - int(beyond[0])
