"""Cells of the grid that a frame's tokens lie on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from framefusion.errors import LayoutError

if TYPE_CHECKING:
    from torch import Tensor

    from framefusion.layout import Geometry


def cells_of(geometry: Geometry) -> tuple[Tensor, Tensor]:
    """(N,) row and (N,) column of every token. Raises LayoutError when a token has none."""
    if bool(((geometry.row < 0) | (geometry.column < 0)).any()):
        raise LayoutError(
            "this method needs the grid of every frame",
            "the layout says which frame a token belongs to but not its row and column",
            "give a Layout whose Geometry has rows and columns",
        )
    return geometry.row, geometry.column
