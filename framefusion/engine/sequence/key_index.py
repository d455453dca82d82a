"""Which prompt columns the entries of a key-value layer had."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, eq=False)
class KeyIndex:
    """Entries of one layer, S per row.

    columns: (B, S) prompt column of each entry, ascending among the valid ones.
    valid: (B, S) False for entries that pad a shorter row; None when there are none.
    """

    columns: Tensor
    valid: Tensor | None

    @property
    def length(self) -> int:
        return self.columns.shape[1]

    @staticmethod
    def range(batch: int, length: int, device: torch.device) -> KeyIndex:
        """An unreduced layer: one entry per column."""
        return KeyIndex(torch.arange(length, device=device).expand(batch, length), None)

    def append(self, other: KeyIndex) -> KeyIndex:
        if self.length == 0:  # an emptied layer forgets its batch size too
            return other
        valid = None
        if self.valid is not None or other.valid is not None:
            valid = torch.cat([self._validity(), other._validity().to(self.columns.device)], 1)
        return KeyIndex(torch.cat([self.columns, other.columns.to(self.columns.device)], 1), valid)

    def _validity(self) -> Tensor:
        return torch.ones_like(self.columns, dtype=torch.bool) if self.valid is None else self.valid

    def first(self, count: int) -> KeyIndex:
        return self._slice(0, count)

    def last(self, count: int) -> KeyIndex:
        return self._slice(self.length - count, self.length) if count < self.length else self

    def _slice(self, start: int, stop: int) -> KeyIndex:
        return KeyIndex(self.columns[:, start:stop], None if self.valid is None else self.valid[:, start:stop])

    def nothing(self) -> KeyIndex:
        return self.first(0)

    def pick_rows(self, rows: Tensor) -> KeyIndex:
        rows = rows.to(self.columns.device)
        return KeyIndex(self.columns[rows], None if self.valid is None else self.valid[rows])

    def count_before(self, column: int) -> int | None:
        """Entries to keep so that only columns below `column` stay; None when rows disagree."""
        beyond = ((self.columns >= column) & self._validity()).sum(1)
        if bool((beyond != beyond[0]).any()):
            return None
        return self.length - int(beyond[0])
