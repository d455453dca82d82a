"""What a policy sees and returns: tensors of the entries of each layer, and which of them stay."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch

from framefusion.core.options import settle

if TYPE_CHECKING:
    from torch import Tensor

WORDS = 2**20
"""Places within a time step: visual tokens are below, its words from here on; a summary of n entries has place -n."""


@dataclass(frozen=True, eq=False)
class Entries:
    """S entries of one attention layer of one stream, in the order of time.

    keys: (H, S, d), rotated. values: (H, S, d'). frame, place: (h, S) number of the time step since the stream began,
    and of the token within that step. position: (h, S, P) in each plane of the rotary embedding. h is H where heads
    hold entries of their own, else 1. protected: entries in front that always stay. scores: (S,) attention that the
    policy's question pays to each, None where it asks none.
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

    @property
    def visual(self) -> Tensor:
        """(h, S) True where an entry is a visual token of its own."""
        return (self.place >= 0) & (self.place < WORDS)


@dataclass(frozen=True, eq=False)
class Kept:
    """What stays of one layer. index: (h, K) ascending, h 1 or H. folded: (n,) entries to put into one summary."""

    index: Tensor
    folded: Tensor | None = None


@dataclass(frozen=True)
class Policy:
    """Base of all: a frozen dataclass whose fields are its options, annotated as those of methods are.

    A policy that has `questions` says by `question_of` which of them scores a layer. retrieves: everything is kept,
    outside of the accelerator's memory, and `select` says what is read for a question.
    """

    retrieves: ClassVar[bool] = False

    def __post_init__(self) -> None:
        settle(self)

    @property
    def questions(self) -> tuple[str, ...]:
        """What the model is asked before each compression, to score what is cached."""
        return ()

    def question_of(self, layer: int, layers: int) -> int:
        """Number of the question whose attention scores attention layer `layer` of `layers`."""
        return 0

    def compress(self, layers: Sequence[Entries], budget: int) -> list[Kept]:
        """What stays of every layer, at most `budget` entries of each."""
        return [self.keep(entries, budget) if entries.count > budget else everything(entries) for entries in layers]

    def select(self, entries: Entries, query: Tensor, budget: int) -> Kept:
        """What is read of one layer for a question, see `Retrieve`."""
        raise NotImplementedError

    def keep(self, entries: Entries, budget: int) -> Kept:
        """What stays of one layer that holds more than `budget` entries."""
        raise NotImplementedError


def everything(entries: Entries) -> Kept:
    return Kept(torch.arange(entries.count, device=entries.keys.device)[None])


def behind_protected(index: Tensor, protected: int) -> Tensor:
    """(h, K) entries in any order -> (h, protected + K) ascending, the protected ones in front."""
    front = torch.arange(protected, device=index.device).expand(index.shape[0], -1)
    return torch.cat([front, index.sort(1).values], 1)
