"""The words a prompt asks about its pictures with."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def question_rows(text: Tensor, asks: Tensor) -> Tensor:
    """Rows of `text` (M, ...) after the last visual token, all of them when none is. asks: (M,) bool."""
    return text[asks.to(text.device)] if bool(asks.any()) else text
