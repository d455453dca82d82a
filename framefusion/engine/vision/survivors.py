"""The rows of one tower run that are left inside its blocks, and what stands for the others.

In the attention each sequence (a picture, or a window of one) is cut to the rows that are left of it, and the key of
one that stands for several weighs as much as they did.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from framefusion.core.ops.restoring import Gone
from framefusion.engine.vision.encoded import first_rows
from framefusion.engine.vision.tower_blocks import PACKED, Rows, known_mask

if TYPE_CHECKING:
    from framefusion.core.plan import Plan


class Survivors(Rows):
    """Of one run, or of one window of it, over S rows.

    pictures: rows of each picture. keep: the row of each slot. home: (S,) slot that stands for each row. size: (K,)
    rows each slot stands for. counts: slots of each picture.
    """

    def __init__(self, pictures: Sequence[int], batch: tuple[int, int] | None, device: torch.device) -> None:
        super().__init__(batch)
        self.pictures = list(pictures)
        self.keep = self.home = torch.arange(sum(pictures), device=device)
        self.size = torch.ones(sum(pictures), device=device)
        self.counts = list(pictures)
        self._weight: Tensor | None = None
        self._past: list[tuple[Tensor, int]] = []
        self._gone: list[Gone] = []

    @property
    def count(self) -> int:
        return self.home.numel()

    @property
    def short(self) -> bool:
        """Whether some row is gone."""
        return self.keep.numel() < self.count

    def slots(self) -> list[slice]:
        """Of each picture."""
        return [slice(first, last) for first, last in pairwise(first_rows(self.counts))]

    def take(self, plans: Sequence[Plan], hidden: Tensor, neighbours: int) -> Tensor:
        """Carry out one plan per picture on hidden states (K, D): what is left of them.

        neighbours: as in `VisionStage`.
        """
        slots, device = self.slots(), hidden.device
        shift = first_rows([plan.kept for plan in plans])
        keep = torch.cat([plan.keep + part.start for plan, part in zip(plans, slots, strict=True)])
        left = torch.cat([plan.apply(hidden[part]) for plan, part in zip(plans, slots, strict=True)])
        if neighbours:
            gone = [Gone.of(hidden[part], plan.keep, neighbours) for plan, part in zip(plans, slots, strict=True)]
            owner = torch.cat([one.nearest + first for one, first in zip(gone, shift[:-1], strict=True)])
            self._gone.append(Gone.joined(gone))
        else:
            owner = torch.cat([plan.owner + first for plan, first in zip(plans, shift[:-1], strict=True)])
        self.size = torch.cat([plan.sizes(self.size[part]) for plan, part in zip(plans, slots, strict=True)])
        self._weight = self.size.log() if bool((self.size > 1).any()) else None
        self.keep, self.home = self.keep[keep], owner.to(device)[self.home]
        self.counts = [plan.kept for plan in plans]
        return left

    def end_block(self) -> None:
        """A block is over: what it returns is short as it is now."""
        self._past.append((self.home, len(self._gone)))

    def after(self, number: int, values: Tensor) -> Tensor:
        """Hidden states (K', D) that left block `number`, of all rows."""
        home, gone = self._past[number]
        return self._whole(values, home, self._gone[:gone])

    def expand(self, values: Tensor, place: Any = None) -> Tensor:
        if not self.short or values.shape[:-1].numel() != self.keep.numel():
            return values
        if self.batch is None:
            return self._whole(values, self.home, self._gone)
        return self._whole(values.flatten(0, 1), self.home, self._gone).view(*self.batch, -1)

    def _whole(self, values: Tensor, home: Tensor, gone: Sequence[Gone]) -> Tensor:
        if not gone:
            return values.index_select(0, home)
        for step in reversed(gone):
            values = step.restored(values)
        return values

    def _cut(self, value: Tensor) -> Tensor:
        return super()._cut(value) if self.batch is None else value

    def attend(
        self, function: Callable, place: Any, query: Tensor, key: Tensor, value: Tensor, mask: Any, **given: Any
    ) -> Any:
        weight = self._weight
        if self.batch is not None:
            weight = None if weight is None else weight.view(self.batch[0], -1)
            return function(query, key, value, self._mask(mask), weight=weight, **given)
        given = {name: part for name, part in given.items() if name not in PACKED}
        outputs = []
        for first, last in self._pieces():
            states = (part[:, :, first:last] for part in (query, key, value))
            own = None if weight is None else weight[None, first:last]
            outputs.append(function(*states, mask, weight=own, **given)[0])
        return torch.cat(outputs, 1), None

    def _pieces(self) -> list[tuple[int, int]]:
        """The slots of every sequence that has one."""
        ends = torch.searchsorted(self.keep, self.keep.new_tensor(self.borders)).tolist()
        return [(first, last) for first, last in pairwise(ends) if last > first]

    def _mask(self, mask: Any) -> Tensor | None:
        """(B, 1 or H, K or 1, K) of the mask (B or 1, 1 or H, P or 1, P)."""
        mask = known_mask(mask)
        if mask is None:
            return None
        assert self.batch is not None
        count, width = self.batch
        keep = self.keep.view(count, -1) - torch.arange(count, device=self.keep.device)[:, None] * width
        one = mask.expand(count, -1, -1, -1)
        if one.shape[2] > 1:
            one = one.gather(2, keep[:, None, :, None].expand(-1, one.shape[1], -1, one.shape[3]))
        return one.gather(3, keep[:, None, None, :].expand(-1, one.shape[1], one.shape[2], -1))

    def expand_heads(self, states: Tensor, place: Any) -> Tensor:
        if self.batch is None:
            return states.index_select(2, self.home)
        flat = states.transpose(1, 2).flatten(0, 1).index_select(0, self.home)
        return flat.view(*self.batch, *flat.shape[1:]).transpose(1, 2)
