"""The blocks of a vision tower, and what each of them is called with, cut to fewer rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Protocol

import torch

if TYPE_CHECKING:
    from framefusion.core.errors import UnsupportedPointError

BLOCKS = ("blocks", "layers", "layer")
BORDERS, LONGEST = "cu_seqlens", "max_seqlen"


class Rows(Protocol):
    """Fewer rows than there are. borders: of the sequences, in all rows."""

    borders: tuple[int, ...]

    def cut(self, value: Any) -> Any:
        """Values with a row for each of all rows, cut to these."""


def lists_of_blocks(tower: Any) -> Iterator[list[Any]]:
    """Every list of modules that may be the tower's blocks, outermost first."""
    for module in tower.modules():
        for name in BLOCKS:
            found = getattr(module, name, None)
            if isinstance(found, torch.nn.ModuleList) and len(found):
                yield list(found)


def cut_arguments(
    rows: Rows,
    count: int,
    batch: tuple[int, int] | None,
    given: dict[str, Any],
    refused: Callable[[str], UnsupportedPointError],
) -> dict[str, Any]:
    """What a block is called with beside its hidden states, for `count` of the rows, in one sequence.

    batch: (B, P) where pictures are rows of a batch, None where all are one sequence.
    """
    rest = {name: rows.cut(value) for name, value in given.items() if name not in ("hidden_states", BORDERS)}
    if batch is not None:
        rows.borders = tuple(range(0, batch[0] * batch[1] + 1, batch[1]))
        return rest | {name: given[name] for name in (BORDERS,) if name in given}
    borders = given.get(BORDERS)
    if borders is None:
        raise refused(f"its blocks are not told where pictures end by `{BORDERS}`")
    rows.borders = tuple(borders.tolist())
    rest[BORDERS] = borders.new_tensor([0, count])
    if rest.get(LONGEST) is not None:
        rest[LONGEST] = count
    return rest
