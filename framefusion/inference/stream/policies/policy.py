"""What a policy sees and returns: tensors of the entries of each layer, and which of them stay."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from framefusion.core.options import settle

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, eq=False)
class Entries:
    """S entries of one attention layer of one stream, in the order of time.

    keys: (H, S, d), rotated. values: (H, S, d'). frame, place: (h, S) number of the time step since the stream began and
    of the token within it; words have place -1. position: (h, S, P) in each plane of the rotary embedding. h is H where heads keep entries of their own, else 1. protected: entries in front that
    always stay. scores: (S,) attention of the policy's questions, None where it has none.
    """

    keys: Tensor
    values: Tensor
    frame: Tensor
    place: Tensor
    position: Tensor
    protected: int
    scores: Tensor | None = None

    @property
    def count(self) -> int:
        return self.keys.shape[1]


@dataclass(frozen=True, eq=False)
class Kept:
    """What stays of one layer. index: (h, K) ascending, h 1 or H. folded: (n,) entries to put into one summary."""

    index: Tensor
    folded: Tensor | None = None


@dataclass(frozen=True)
class Policy:
    """Base of all: a frozen dataclass whose fields are its options, annotated as those of methods are."""

    def __post_init__(self) -> None:
        settle(self)

    def compress(self, layers: Sequence[Entries], budget: int) -> list[Kept]:
        """What stays of every layer, at most `budget` entries of each."""
        return [self.keep(entries, budget) if entries.count > budget else everything(entries) for entries in layers]

    def keep(self, entries: Entries, budget: int) -> Kept:
        """What stays of one layer that holds more than `budget` entries."""
        raise NotImplementedError


def everything(entries: Entries) -> Kept:
    return Kept(torch.arange(entries.count, device=entries.keys.device)[None])
