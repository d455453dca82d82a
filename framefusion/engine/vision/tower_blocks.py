"""The blocks of a vision tower, and the rows that they work on in the place of all.

A row is a patch, or a token in front of the patches. All pictures stand one behind the other, in the order in which the
blocks work on them. Rows meet in the attention alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from framefusion.core.errors import UnsupportedPointError

BLOCKS = ("blocks", "layers", "layer")
BORDERS, LONGEST = "cu_seqlens", "max_seqlen"
PACKED = ("cu_seq_lens_q", "cu_seq_lens_k", "max_length_q", "max_length_k")
"""Borders of sequences, as flash kernels are told them."""


class Rows:
    """Some of S rows.

    keep: (K,) which, ascending. batch: (B, P) where pictures are rows of a batch, None where all are one sequence.
    borders: of the sequences of the block under way, in rows.
    """

    keep: Tensor
    borders: tuple[int, ...] = ()

    def __init__(self, batch: tuple[int, int] | None) -> None:
        self.batch = batch

    @property
    def count(self) -> int:
        """S"""
        raise NotImplementedError

    def expand(self, values: Tensor, place: Any) -> Tensor:
        """What each row shows: (K, D) -> (S, D), or those of a batch -> (B, P, D). Anything else is whole already.

        place: in the tower, the same in every window.
        """
        raise NotImplementedError

    def expand_heads(self, states: Tensor, place: Any) -> Tensor:
        """Queries or keys of the rows (1, H, K, d) of what every row shows: (1, H, S, d); of a batch (B, H, P, d)."""
        raise NotImplementedError

    def attend(
        self, function: Callable, place: Any, query: Tensor, key: Tensor, value: Tensor, mask: Any, **given: Any
    ) -> Any:
        """The attention of these rows, sequence by sequence: (1, H, K, d) each -> ((1, K, H, d), None).

        function: (query, key, value, mask, weight=(B, n) or None, **given) -> output and weights. place: the module
        that calls it.
        """
        raise NotImplementedError

    def cut(self, value: Any) -> Any:
        """Values with a row for each of the S rows, or tuples of them, cut to these; others as they are."""
        if isinstance(value, tuple | list):
            return type(value)(self.cut(part) for part in value)
        has_rows = isinstance(value, Tensor) and value.ndim and value.shape[0] == self.count
        return self._cut(value) if has_rows else value

    def _cut(self, value: Tensor) -> Tensor:
        return value.index_select(0, self.keep)

    def arguments(self, given: dict[str, Any], refused: Callable[[str], UnsupportedPointError]) -> dict[str, Any]:
        """What a block is called with beside its hidden states, for these rows in one sequence.

        refused: the error of a block that is not told where pictures end.
        """
        rest = {name: self.cut(value) for name, value in given.items() if name not in ("hidden_states", BORDERS)}
        borders = given.get(BORDERS)
        if self.batch is not None:
            self.borders = tuple(range(0, self.batch[0] * self.batch[1] + 1, self.batch[1]))
            return rest if BORDERS not in given else {**rest, BORDERS: borders}
        if borders is None:
            raise refused(f"its blocks are not told where pictures end by `{BORDERS}`")
        self.borders = tuple(borders.tolist())
        rest[BORDERS] = borders.new_tensor([0, self.keep.numel()])
        if rest.get(LONGEST) is not None:
            rest[LONGEST] = self.keep.numel()
        return rest

    def lengths(self, rows: int) -> list[int]:
        """Rows of each sequence whose `rows` rows of a picture, or of all pictures, are one behind the other."""
        return [rows] if self.batch is not None else [b - a for a, b in pairwise(self.borders)]


def lists_of_blocks(tower: Any) -> Iterator[list[Any]]:
    """Every list of modules that may be the tower's blocks, outermost first."""
    for module in tower.modules():
        for name in BLOCKS:
            found = getattr(module, name, None)
            if isinstance(found, torch.nn.ModuleList) and len(found):
                yield list(found)


def known_mask(mask: Any) -> Tensor | None:
    """A mask that can be cut, or none. Raises UnsupportedPointError for any other."""
    if mask is None or (isinstance(mask, Tensor) and mask.ndim == 4):
        return mask
    raise UnsupportedPointError(
        "the mask of this vision tower cannot be cut to the patches that are encoded",
        f"it is a {type(mask).__name__}, not one of (pictures, heads, patches, patches)",
        "load the model with attn_implementation='sdpa'",
    )
