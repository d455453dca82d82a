"""Which visual tokens repeat others, from what was encoded of the patches they show."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

if TYPE_CHECKING:
    from torch import Tensor

    from framefusion.core.layout import Geometry
    from framefusion.engine.vision.encoded import Encoded
    from framefusion.engine.vision.run import TowerRun


def repeated_tokens(geometry: Geometry, pictures: list[tuple[TowerRun | None, int, Tensor]]) -> Tensor:
    """(N,) the token that each token of a row repeats, itself where one of its patches was encoded.

    pictures: those of the row: the run that encoded it, its number there, and the row's tokens that show it.
    """
    head = torch.arange(len(geometry))
    rows, columns = (int(part.max()) + 1 if len(geometry) else 0 for part in (geometry.row, geometry.column))
    lookup: dict[tuple[int, int], Tensor] = {}
    for run, number, group in pictures:
        if run is None or run.encoded is None:
            continue
        shown = _shown(run.encoded, number, geometry, group)
        place = _places(geometry, group, columns)
        known = torch.full((max(rows * columns, int(place.max()) + 1),), -1)
        known[place] = group.cpu()
        lookup[id(run), number] = known
        for other in shown.unique().tolist():
            if other == number:
                continue
            there = lookup[id(run), other]
            mine = shown == other
            found = there[place[mine]]
            tokens = group.cpu()[mine]
            head[tokens] = torch.where(found < 0, tokens, found)
    # What a token repeats may have left the prompt in the processor and repeat another one itself.
    return head[head]


def _places(geometry: Geometry, group: Tensor, columns: int) -> Tensor:
    """(n,) a number for the place of each token in its picture."""
    row, column = geometry.row[group].cpu(), geometry.column[group].cpu()
    return geometry.patch[group].cpu() if bool((row < 0).any()) else row * columns + column


def _shown(encoded: Encoded, number: int, geometry: Geometry, group: Tensor) -> Tensor:
    """(n,) the picture whose encoding each token of a picture shows: the latest of those its patches show."""
    grid, shows = encoded.grids[number], encoded.shows[number]
    row, column = geometry.row[group].cpu(), geometry.column[group].cpu()
    if bool((row < 0).any()):
        flat = geometry.patch[group].cpu()
        return shows[flat] if int(flat.max()) < grid.units else torch.full_like(flat, number)
    clip = geometry.clip == geometry.clip[group[0]]
    size = int(geometry.row[clip].max()) + 1, int(geometry.column[clip].max()) + 1
    square = shows.view(1, grid.rows, grid.columns).double()
    return F.adaptive_max_pool2d(square, size)[0][row, column].long()
