"""Weighted sums of rows: what every survivor of a plan becomes, in one pass over the tokens."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from framefusion.core.ops.kernels import kernels_for

if TYPE_CHECKING:
    from torch import Tensor

PIECE_BYTES = 1 << 20
"""Output made at a time on a CPU: little enough to stay in its cache until it is written."""


@dataclass(frozen=True)
class Sums:
    """K sums over rows of M. Sum k runs over the entries starts[k] to starts[k + 1].

    source: (E,) row of each entry. weight: (E,) float32. starts: (K + 1,) ascending, from 0 to E.
    """

    source: Tensor
    weight: Tensor
    starts: Tensor

    @property
    def count(self) -> int:
        return self.starts.numel() - 1

    @staticmethod
    def of(own: Tensor, own_weight: Tensor, target: Tensor, source: Tensor, weight: Tensor) -> Sums:
        """Sum k takes own_weight[k] of row own[k], then weight[m] of row source[m] wherever target[m] is k.

        A sum that takes in nothing is its own row unchanged.
        """
        count, more, device = own.numel(), source.numel(), own.device
        taken = torch.zeros(count, dtype=torch.long, device=device).index_add_(0, target, torch.ones_like(target))
        ends = taken.cumsum(0)
        starts = torch.arange(count + 1, device=device)
        starts[1:] += ends
        lined = target.sort(stable=True)
        before = (ends - taken)[lined.values]
        place = starts[:-1][lined.values] + 1 + torch.arange(more, device=device) - before
        entries = torch.empty(count + more, dtype=torch.long, device=device)
        shares = torch.empty(count + more, dtype=torch.float32, device=device)
        entries[starts[:-1]], shares[starts[:-1]] = own, torch.where(taken > 0, own_weight.to(torch.float32), 1.0)
        entries[place], shares[place] = source[lined.indices], weight.to(torch.float32)[lined.indices]
        return Sums(entries, shares, starts)

    def to(self, device: torch.device) -> Sums:
        return Sums(self.source.to(device), self.weight.to(device), self.starts.to(device))

    def numbers(self) -> Tensor:
        """(E,) number of the sum each entry belongs to."""
        line = torch.arange(self.count, device=self.starts.device)
        return line.repeat_interleave(self.starts.diff(), output_size=self.source.numel())


def weighted_rows(values: Tensor, sums: Sums) -> Tensor:
    """values: (M, ...) -> (K, ...), added up in float32 at least."""
    flat = values.reshape(values.shape[0], -1)
    kernels = kernels_for(flat, "weighted")
    if kernels is not None:
        made = kernels.weighted_rows(flat, sums)
    elif values.is_cuda or (values.requires_grad and torch.is_grad_enabled()):
        made = _at_once(flat, sums)
    else:
        made = flat.new_empty(sums.count, flat.shape[1])
        for start, stop, piece in _pieces(flat, sums):
            made[start:stop] = piece
    return made.view(sums.count, *values.shape[1:])


def weighted_rows_(values: Tensor, sums: Sums) -> Tensor:
    """The same into the first K rows of contiguous `values` on a CPU, which are returned. See `runs_forward`."""
    flat = values.view(values.shape[0], -1)
    for start, stop, piece in _pieces(flat, sums):
        flat[start:stop] = piece
    return values[: sums.count]


def runs_forward(sums: Sums) -> bool:
    """Whether no sum needs a row that an earlier sum would overwrite, if sums were written from the first row on."""
    return bool((sums.source >= sums.numbers()).all())


def _pieces(flat: Tensor, sums: Sums) -> Iterator[tuple[int, int, Tensor]]:
    """Sums start..stop of (M, D), little by little: each is made when the one before has been taken."""
    step = max(16, PIECE_BYTES // max(1, flat.shape[1] * flat.element_size()))
    borders = [*range(0, sums.count, step), sums.count]
    entries = sums.starts[borders].tolist()
    make = _bag if flat.dtype in (torch.float32, torch.float64) else _small
    for start, stop, low, high in zip(borders, borders[1:], entries, entries[1:], strict=False):
        part = Sums(sums.source[low:high], sums.weight[low:high], sums.starts[start : stop + 1] - low)
        yield start, stop, make(flat, part)


def _bag(flat: Tensor, sums: Sums) -> Tensor:
    # A bag of embeddings is a weighted sum of rows, and reads them without a copy.
    weight = sums.weight.to(flat.dtype)
    return F.embedding_bag(
        sums.source, flat.detach(), sums.starts, mode="sum", per_sample_weights=weight, include_last_offset=True
    )


def _small(flat: Tensor, sums: Sums) -> Tensor:
    """For types whose own sums would round too early."""
    return _at_once(flat.detach(), sums)


def _at_once(flat: Tensor, sums: Sums) -> Tensor:
    wide = torch.promote_types(flat.dtype, torch.float32)
    taken = flat.index_select(0, sums.source).to(wide) * sums.weight.to(wide)[:, None]
    return taken.new_zeros(sums.count, flat.shape[1]).index_add(0, sums.numbers(), taken).to(flat.dtype)


def group_sums(values: Tensor, group: Tensor) -> Tensor:
    """values: (N, ...) float. group: (N,) numbers from 0 without gaps. Returns (G, ...), rounded alike on every run."""
    # Scattered additions would do, but their order, and so their rounding, is not fixed on every device.
    order = group.sort(stable=True).indices
    return torch.segment_reduce(values[order], "sum", lengths=torch.bincount(group), axis=0)


def group_means(values: Tensor, group: Tensor, groups: int) -> Tensor:
    """values: (N, D) or (N,). group: (N,) in 0..groups-1. Returns (groups, D) or (groups,); empty groups are zero."""
    # A product instead of scattered additions, whose order, and so whose rounding, is not fixed on every device.
    member = (torch.arange(groups, device=group.device)[:, None] == group).to(values.dtype)
    share = member / member.sum(1, keepdim=True).clamp(min=1)
    return share @ values


def members(group: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """Every member of the groups `wanted` (M,), which may repeat: (E,) which of them it is for, and (E,) the member.

    group: (N,) numbers from 0 without gaps.
    """
    line, size = group.sort(stable=True).indices, torch.bincount(group)
    count, begin = size[wanted], (size.cumsum(0) - size)[wanted]
    entry = torch.arange(len(wanted), device=group.device).repeat_interleave(count)
    offset = torch.arange(len(entry), device=group.device) - (count.cumsum(0) - count)[entry]
    return entry, line[begin[entry] + offset]
