"""The rows of one tower run that are encoded, and what every other row shows instead.

Blocks are handed the K encoded rows of all pictures in one sequence; what leaves them is spread over all S rows again.
In the attention the queries of a picture read the keys and values of the whole picture, gathered from the rows that
show it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from framefusion.engine.vision.tower_blocks import PACKED, Rows, known_mask


@dataclass(frozen=True)
class Piece:
    """One sequence of the attention. first, last: its encoded rows. keys: (n,) the rows its queries read."""

    first: int
    last: int
    keys: Tensor
    number: int
    own: Tensor


@dataclass(eq=False)
class Carried:
    """What later windows of a run read of earlier ones.

    rows: (n,) their numbers. values: by place in the tower, their values. coming: the same for the next window.
    """

    rows: Tensor
    values: dict[Any, Tensor] = field(default_factory=dict)
    coming: dict[Any, Tensor] = field(default_factory=dict)

    def next(self, rows: Tensor) -> None:
        """A window is over; the next one reads `rows` of it and those before."""
        self.rows, self.values, self.coming = rows, self.coming, {}


class EncodedRows(Rows):
    """Of one window of S rows, or of a whole run.

    shown: (S,) number of the row whose encoding each row shows, its own where it is encoded. order: (S,) row at each
    place of the sequence the blocks work on, None where it is in order. reuse: whether queries read what other rows
    show, or encoded rows alone. start: number of the first row. carried: what earlier windows left, None where the run
    is one. later: numbers of the rows that later windows show. least: rows encoded where nothing is, since towers
    refuse an empty sequence. calls: of the attention so far.
    """

    def __init__(
        self,
        shown: Tensor,
        order: Tensor | None,
        batch: tuple[int, int] | None,
        reuse: bool,
        start: int = 0,
        carried: Carried | None = None,
        later: Tensor | None = None,
        least: int = 1,
    ) -> None:
        super().__init__(batch)
        order = torch.arange(shown.numel(), device=shown.device) if order is None else order
        encoded = (shown == torch.arange(start, start + shown.numel(), device=shown.device))[order]
        if not bool(encoded.any()):
            encoded[:least] = True
        self.keep = encoded.nonzero().flatten()
        self.own = torch.zeros_like(encoded).index_fill(0, order[self.keep], True)
        known = start + order[self.keep]
        if carried is not None:
            known = torch.cat([carried.rows, known])
        place = torch.zeros(start + shown.numel(), dtype=torch.long, device=shown.device)
        place[known] = torch.arange(known.numel(), device=shown.device)
        self.source = place[shown[order]]
        self.reuse, self.carried = reuse, carried
        self._later_rows, self._later = later, None if later is None else place[later]
        self._before = torch.nn.functional.pad(encoded.cumsum(0), (1, 0))
        self._pieces: dict[tuple[int, ...], list[Piece]] = {}
        self._memo: dict[int, tuple[Tensor, Tensor]] = {}
        self.calls = 0

    @property
    def count(self) -> int:
        return self.source.numel()

    def end_window(self) -> None:
        """Leave to the next window what it reads of this one."""
        if self.carried is not None and self._later_rows is not None:
            self.carried.next(self._later_rows)

    def _cut(self, value: Tensor) -> Tensor:
        known = self._memo.get(id(value))
        if known is None:  # the same tensor goes to every block
            known = self._memo[id(value)] = (value, value.index_select(0, self.keep))
        return known[1]

    def cut_patches(self, patches: Tensor) -> Tensor:
        """(S, D) of rows in their own order, before they are embedded -> those that are encoded."""
        return patches.index_select(0, self.own.nonzero().flatten())

    def expand_patches(self, embedded: Tensor) -> Tensor:
        """Their embeddings (K, C) -> (S, C), where those of other rows are never read."""
        return embedded.index_select(0, (self.own.cumsum(0) - 1).clamp(min=0))

    def cut_hidden(self, hidden: Tensor) -> Tensor:
        """(S, D), or (B, P, D) -> (1, K, D)."""
        if self.batch is None:
            return hidden.index_select(0, self.keep)
        return hidden.flatten(0, 1).index_select(0, self.keep)[None]

    def _known(self, place: Any, values: Tensor, dim: int, group: int = 1) -> Tensor:
        """Values of the encoded rows, behind those that earlier windows left at `place`, in groups of `group` rows."""
        if self.carried is None:
            return values
        left = self.carried.values.get(place)
        whole = values if left is None else torch.cat([left, values], dim)
        if self._later is not None:
            self.carried.coming[place] = whole.index_select(dim, self._later[::group] // group)
        return whole

    def expand(self, values: Tensor, place: Any) -> Tensor:
        if self.batch is None:
            short = values.shape[0] == self.keep.numel()
            return self._known(place, values, 0).index_select(0, self.source) if short else values
        if values.shape[:2] != (1, self.keep.numel()):
            return values
        return self._known(place, values[0], 0).index_select(0, self.source).view(*self.batch, -1)

    def expand_groups(self, values: Tensor, place: Any) -> Tensor:
        """(K / n, D) -> (S / n, D), for groups of n rows that stand next to each other and are encoded together."""
        group = self.keep.numel() // values.shape[0]
        return self._known(place, values, 0, group).index_select(0, self.source[::group] // group)

    def attend(
        self, function: Callable, place: Any, query: Tensor, key: Tensor, value: Tensor, mask: Any, **given: Any
    ) -> Any:
        self.calls += 1
        given = {name: part for name, part in given.items() if name not in PACKED}
        outputs = []
        if self.reuse:
            key, value = self._known(("key", place), key, 2), self._known(("value", place), value, 2)
        for piece in self._of(self.borders):
            keys, values = (part.index_select(2, piece.keys) for part in (key, value))
            seen = self._mask(mask, piece)
            outputs.append(function(query[:, :, piece.first : piece.last], keys, values, seen, **given)[0])
        return torch.cat(outputs, 1), None

    def expand_heads(self, states: Tensor, place: Any) -> Tensor:
        whole = self._known(place, states, 2).index_select(2, self.source)
        if self.batch is None:
            return whole
        return whole[0].unflatten(1, self.batch).transpose(0, 1)

    def _of(self, borders: tuple[int, ...]) -> list[Piece]:
        """The sequences between `borders` that have an encoded row."""
        if borders not in self._pieces:
            self._pieces[borders] = list(self._make(borders))
        return self._pieces[borders]

    def _make(self, borders: tuple[int, ...]) -> list[Piece]:
        device = self.source.device
        counts = self._before[torch.tensor(borders, device=device)].tolist()
        pieces = []
        for number, (start, end) in enumerate(pairwise(borders)):
            first, last = counts[number], counts[number + 1]
            if last > first:
                own = self.keep[first:last] - start
                keys = self.source[start:end] if self.reuse else torch.arange(first, last, device=device)
                pieces.append(Piece(first, last, keys, number, own))
        return pieces

    def _mask(self, mask: Any, piece: Piece) -> Tensor | None:
        """(1, 1 or H, n, keys) of the mask (B, 1 or H, P or 1, P) over whole pictures."""
        mask = known_mask(mask)
        if mask is None:
            return None
        one = mask[piece.number : piece.number + 1] if mask.shape[0] > 1 else mask
        one = one if one.shape[2] == 1 else one.index_select(2, piece.own)
        return one if self.reuse else one.index_select(3, piece.own)
