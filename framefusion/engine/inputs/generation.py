"""Is a call of the model inside `generate` a step of that `generate`, or about words of its own?

Guidance, contrastive branches, logits processors and streamers may ask the model something else in between. Lengths
cannot tell: only ids, or embeddings, that are the prompt's own belong to it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from framefusion.engine.model.cache_names import cache_in

if TYPE_CHECKING:
    from torch import Tensor

Explains = Callable[["Tensor", "Tensor"], bool]
"""(ids (B, L), embeddings (B, L, D)) -> whether these are embeddings of those ids, features at placeholders aside."""


@dataclass(frozen=True, eq=False)
class Generation:
    """One `generate` under way.

    given: its arguments by name. cached: columns its cache held when it began.
    """

    given: Mapping[str, Any]
    cached: int

    @staticmethod
    def begin(given: Mapping[str, Any]) -> Generation:
        ids = given.get("input_ids")
        ids = given.get("inputs") if ids is None else ids
        return Generation({**given, "input_ids": ids}, cached_columns(given))

    @property
    def ids(self) -> Tensor | None:
        """(B, P) ids of its prompt, those behind the cache alone or all of them; None where it got embeddings."""
        return self.given["input_ids"]

    @property
    def inputs(self) -> dict[str, Any]:
        """What came with its prompt."""
        return {name: value for name, value in self.given.items() if value is not None}

    def first_read(self) -> int:
        """Column of its ids at which its first step begins: 0, or what is cached of them, as transformers decides."""
        mask, ids = self.given.get("attention_mask"), self.ids
        only_new = ids is not None and mask is not None and mask.shape[1] != ids.shape[1]
        return 0 if only_new else self.cached

    def read_by(self, given: Mapping[str, Any], explains: Explains) -> PromptSpan | None:
        """How a forward call with the inputs `given` reads this prompt, None when it is about other words, or one."""
        ids, embeds = given.get("input_ids"), given.get("inputs_embeds")
        read = embeds if ids is None else ids
        if read is None or read.shape[1] == 1:
            return None  # a decode step, which shows no pictures: to compare it would wait for the device every time
        for whole, same in self._ways(ids is None, explains):
            for start, first in self._places(whole.shape[1], read.shape[1], cached_columns(given), ids is None):
                count = min(whole.shape[1] - start, read.shape[1] - first)
                here, there = whole[:, start : start + count], read[:, first : first + count]
                if _rows_repeat(here, there) and same(here, there):
                    return PromptSpan(self, start, first, whole.shape[1])
        return None

    def _ways(self, embedded: bool, explains: Explains) -> Iterator[tuple[Tensor, Callable]]:
        """Tensors this prompt is known by, and how to compare a piece of each with what a call reads."""
        embeds = self.given.get("inputs_embeds")
        if not embedded:
            if self.ids is not None:
                yield self.ids, _equal
            return
        if embeds is not None:
            yield embeds, _equal
        if self.ids is not None:
            yield self.ids, lambda ids, seen: explains(ids, seen[:: seen.shape[0] // ids.shape[0]])

    def _places(self, whole: int, length: int, past: int, embedded: bool) -> Iterator[tuple[int, int]]:
        """Columns of the prompt and of a call that may be the same, the call reading behind `past` cached columns.

        Columns that no id stands for, as of prompt tuning, lie in front: in the cache, or in the call itself.
        """
        for start in dict.fromkeys((past, past - self.cached, 0)):
            if 0 <= start < whole:
                yield start, 0
        if embedded:
            # The prompt ends with the call, or some tokens before that where nothing is cached.
            yield from ((0, first) for first in range(length - whole, 0, -1))


@dataclass(frozen=True, eq=False)
class PromptSpan:
    """The part of a prompt that a call reads.

    start: its first column in the prompt. first: the same column in the call. width: columns of the prompt.
    """

    generation: Generation
    start: int
    first: int
    width: int

    def end(self, length: int) -> int:
        """Where the prompt ends among the `length` columns of the call."""
        return min(length, self.first + self.width - self.start)

    def columns(self, length: int) -> slice | None:
        """Columns of the prompt's ids that the `length` columns of the call begin with, None where no ids say them."""
        ids = self.generation.ids
        if ids is None or self.first or ids.shape[1] != self.width:
            return None
        return slice(self.start, min(self.start + length, self.width))


def cached_columns(given: Mapping[str, Any]) -> int:
    """Columns in the cache of a call."""
    cache = cache_in(given)
    return int(cache.get_seq_length()) if hasattr(cache, "get_seq_length") else 0


def _rows_repeat(whole: Tensor, seen: Tensor) -> bool:
    """Whether the rows of `seen` may be those of `whole`, repeated for beams."""
    return bool(whole.shape[0]) and seen.shape[0] % whole.shape[0] == 0 and whole.shape[1] == seen.shape[1] > 0


def _equal(whole: Tensor, seen: Tensor) -> bool:
    whole = whole.to(seen.device).repeat_interleave(seen.shape[0] // whole.shape[0], 0)
    return whole.shape == seen.shape and torch.equal(whole.to(seen.dtype), seen)
