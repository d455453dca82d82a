"""Runs of placeholders with the text in front of them, and the pieces of pictures and videos that lie on them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from framefusion.core.layout import Geometry, Layout, Placement

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Run:
    """Neighbouring placeholders of one kind.

    columns: (n,) of the prompt. token: their id. opening: ids of the text between the run before and this one.
    """

    columns: Tensor
    token: int
    opening: tuple[int, ...]

    def __len__(self) -> int:
        return self.columns.numel()


@dataclass(frozen=True)
class Piece:
    """Some tokens of one video or picture. follows: their first frame is the next one of the piece before them."""

    columns: Tensor
    geometry: Geometry
    follows: bool = False


def neighbours(columns: Tensor) -> Sequence[Tensor]:
    """Runs of columns without a gap."""
    return torch.tensor_split(columns, (columns.diff() > 1).nonzero().flatten() + 1) if columns.numel() else ()


def runs_of(row: Tensor, tokens: Iterable[int | None]) -> list[Run]:
    """All runs of `tokens` in one row (L,), in prompt order."""
    row = row.cpu()  # the device is waited for once, not at every border
    found = [
        (token, columns)
        for token in dict.fromkeys(tokens)
        if token is not None
        for columns in neighbours(row.eq(token).nonzero().flatten())
    ]
    found.sort(key=lambda run: int(run[1][0]))
    runs, end = [], 0
    for token, columns in found:
        first = int(columns[0])
        runs.append(Run(columns, token, tuple(row[end:first].tolist())))
        end = int(columns[-1]) + 1
    return runs


def run_lengths(ids: Tensor, token: int | None) -> Iterator[int]:
    """Lengths of the runs of `token` in all rows of `ids` (B, L), in order."""
    for row in ids:
        if token is not None:
            yield from map(len, runs_of(row, [token]))


def lay_pieces(ids: Tensor, rows: Iterable[Sequence[Piece]], video: Tensor | None = None) -> Layout:
    """Layout of a batch. rows: the pieces of every row. video: (B, L) True at placeholders of videos, if known."""
    made = []
    for number, pieces in enumerate(rows):
        clip, frames = -1, 0
        columns, parts = [], []
        for piece in sorted(pieces, key=lambda piece: int(piece.columns[0])):
            if not piece.follows:
                clip, frames = clip + 1, 0
            parts.append(piece.geometry.as_clip(clip, first_frame=frames))
            columns.append(piece.columns)
            frames += int(piece.geometry.frame.max()) + 1
        made.append(_row(columns, parts, None if video is None else video[number]))
    return Layout(tuple(made), ids.shape[1])


def _row(columns: list[Tensor], parts: list[Geometry], video: Tensor | None) -> tuple[Geometry, Placement]:
    if not parts:
        return Geometry.empty(), Placement(torch.zeros(0, dtype=torch.long))
    place, geometry = torch.cat(columns), Geometry.cat(parts)
    order = place.argsort()
    place = place[order]
    return geometry[order], Placement(place, None if video is None else video[place])
