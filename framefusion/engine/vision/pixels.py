"""The pixels a vision tower is given, as units of the clips they show."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from framefusion.core.errors import UnsupportedPointError

if TYPE_CHECKING:
    from torch import Tensor

    from framefusion.core.layout import Layout
    from framefusion.models.pixel_range import PixelRange


@dataclass(frozen=True)
class UnitGrid:
    """How the patches of a picture make units.

    rows, columns: of units. merge: patches along a side of a unit. patch: pixels along a side of a patch. grouped:
    pictures come as rows of patches, those of a unit next to each other; else they come whole.
    """

    rows: int
    columns: int
    merge: int
    patch: int
    grouped: bool

    @property
    def patches(self) -> int:
        return self.units * self.merge**2

    @property
    def units(self) -> int:
        return self.rows * self.columns

    def unit_of_patch(self) -> Tensor:
        """(P,) the unit each patch belongs to, in the order of the sequence."""
        unit = torch.arange(self.units)
        if self.grouped:
            return unit.repeat_interleave(self.merge**2)
        square = unit.view(self.rows, self.columns)
        return square.repeat_interleave(self.merge, 0).repeat_interleave(self.merge, 1).flatten()


class Units(Sequence):
    """Pixels of the units of one clip, frame by frame, on [0, 1]; each frame is made when it is asked for.

    pixels: (S, D) rows of patches where grouped, else (pictures, C, H, W). pictures: numbers of the clip's, in order.
    starts: first row of each picture of the run, where grouped.
    """

    def __init__(
        self, pixels: Tensor, pictures: Sequence[int], starts: Sequence[int], grid: UnitGrid, known: PixelRange
    ) -> None:
        self.pixels, self.pictures, self.starts, self.grid = pixels, pictures, starts, grid
        self.known = known

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, frame: Any) -> Any:
        """(U, F, 3, s, s) pixels of the units of a frame, or of the F frames that the tower takes as one."""
        picture = self.pictures[frame]
        return self._of_rows(picture) if self.grid.grouped else self._of_picture(picture)

    def _of_rows(self, picture: int) -> Tensor:
        grid, first = self.grid, self.starts[picture]
        rows = self.pixels[first : first + grid.patches].float()
        split = rows.view(grid.units, grid.merge, grid.merge, 3, -1, grid.patch, grid.patch)
        return self._undone(split.permute(0, 4, 3, 1, 5, 2, 6), (3, 1, 1, 1, 1)).flatten(5, 6).flatten(3, 4)

    def _of_picture(self, picture: int) -> Tensor:
        grid, side = self.grid, self.grid.patch * self.grid.merge
        whole = self.pixels[picture, :, : side * grid.rows, : side * grid.columns].float()
        cut = whole.view(3, grid.rows, side, grid.columns, side).permute(1, 3, 0, 2, 4)
        return self._undone(cut, (3, 1, 1)).view(grid.units, 1, 3, side, side)

    def _undone(self, values: Tensor, shape: tuple[int, ...]) -> Tensor:
        """A copy in the order of `values`, of which `shape` names the dimension of the colours."""
        parts = (self.known.mean, self.known.std)
        mean, std = (torch.tensor(part, device=values.device).expand(3).view(shape) for part in parts)
        return values.clone(memory_format=torch.contiguous_format).mul_(std).add_(mean)


def clips_of(places: Sequence[tuple[int, Tensor]], layout: Layout) -> Iterator[list[int]]:
    """Numbers of the pictures of each clip, in the order of its frames.

    places: row and tokens of every picture the tower encodes, in its order.
    """
    clips: dict[tuple[int, int], list[int]] = {}
    for number, (row, group) in enumerate(places):
        clips.setdefault((row, int(layout.rows[row][0].clip[group[0]])), []).append(number)
    yield from clips.values()


def grid_of_picture(pixels: Tensor, patch: int, tokens: int) -> UnitGrid:
    """Units of pictures (B, C, H, W) that the tower cuts into patches of `patch` pixels. tokens: of each picture.

    A unit is the square of patches that makes one token, where they are squares in step; else it is a patch.
    """
    rows, columns = (size // patch for size in pixels.shape[-2:])
    merge = round((rows * columns / max(1, tokens)) ** 0.5)
    fits = merge > 0 and rows % merge == columns % merge == 0 and rows * columns == tokens * merge**2
    merge = merge if fits else 1
    return UnitGrid(rows // merge, columns // merge, merge, patch, grouped=False)


def no_grid(tower: Any, why: str) -> UnsupportedPointError:
    return UnsupportedPointError(
        f"units of {type(tower).__name__} cannot be left out by their pixels",
        why,
        "choose a method that acts behind the tower; `framefusion methods` lists them",
    )
