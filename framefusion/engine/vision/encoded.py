"""What a stage decided of the pictures of one run of the vision tower."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from framefusion.engine.vision.pixels import UnitGrid, Units, grid_of_picture, no_grid

if TYPE_CHECKING:
    from torch import Tensor

    from framefusion.core.stage import PixelStage
    from framefusion.models.pixel_range import PixelRange


@dataclass(frozen=True, eq=False)
class Encoded:
    """Of one run.

    shows: (U,) of every picture, the picture whose encoding each of its units shows. following, weight: (U,) of every
    picture, the picture that next encodes it, and its share in what the unit shows. grids: of every picture.
    """

    shows: list[Tensor]
    following: list[Tensor]
    weight: list[Tensor]
    grids: list[UnitGrid]

    @staticmethod
    def decide(
        stage: PixelStage, pixels: Tensor, clips: Sequence[list[int]], grids: list[UnitGrid], known: PixelRange
    ) -> Encoded:
        """Ask the stage about every clip.

        pixels: as the tower is given them. clips: numbers of the pictures of each. known: how they were normalised.
        """
        starts = first_rows([grid.patches for grid in grids])
        shows = [torch.full((grid.units,), number) for number, grid in enumerate(grids)]
        following, weight = list(shows), [torch.zeros(grid.units) for grid in grids]
        for clip in clips:
            grid = grids[clip[0]]
            if len(clip) < 2:
                continue
            with torch.no_grad():
                made = stage.decide(Units(pixels, clip, starts, grid, known), (grid.rows, grid.columns))
            numbers = torch.tensor(clip)
            for frame, number in enumerate(clip):
                shows[number] = numbers[made.shows[frame].cpu()]
                following[number] = numbers[made.following[frame].cpu()]
                weight[number] = made.weight[frame].cpu()
        return Encoded(shows, following, weight, grids)

    @property
    def partial(self) -> bool:
        """Whether some unit is not encoded."""
        own, every = self.patches()
        return own < every

    def patches(self) -> tuple[int, int]:
        """How many patches are encoded, and how many there are."""
        own = [int((shows == number).sum()) for number, shows in enumerate(self.shows)]
        pairs = [(units * grid.merge**2, grid.patches) for units, grid in zip(own, self.grids, strict=True)]
        return sum(part for part, _ in pairs), sum(every for _, every in pairs)

    def shown_rows(self, width: int | None) -> Tensor:
        """(S,) the row of the run whose encoding each row shows, in the order of the pictures.

        width: rows of each picture, where they come as a batch; those in front of its patches come first.
        """
        shown = []
        starts = torch.tensor(first_rows([grid.patches if width is None else width for grid in self.grids]))
        for shows, grid in zip(self.shows, self.grids, strict=True):
            front = 0 if width is None else width - grid.patches
            first = starts[shows]
            # What stands in front of the patches is encoded where any patch is.
            places = torch.cat([first.max().expand(front), first[grid.unit_of_patch()]])
            shown.append(places + torch.arange(front + grid.patches))
        return torch.cat(shown)


def first_rows(counts: Sequence[int]) -> list[int]:
    """The first row of each picture of `counts` rows, and where the last one ends."""
    return torch.tensor([0, *counts]).cumsum(0).tolist()


def unit_grids(tower: Any, given: Mapping[str, Any], pixels: Tensor, tokens: Sequence[int]) -> list[UnitGrid]:
    """The units of every picture the tower encodes.

    given: what it is called with, by name. pixels: the first of it. tokens: of the pictures of the prompt.
    """
    patch = getattr(tower.config, "patch_size", None)
    patch = patch[0] if isinstance(patch, list | tuple) and len(set(patch)) == 1 else patch
    if not isinstance(patch, int):
        raise no_grid(tower, "its patches lie on no grid that is known")
    if given.get("grid_thw") is not None:
        sizes, merges = given["grid_thw"].tolist(), given.get("merge_sizes")
        side = getattr(tower, "spatial_merge_size", None) or getattr(tower.config, "spatial_merge_size", 1)
        return [
            UnitGrid(height // side, width // side, side, patch, grouped=True)
            for (frames, height, width), side in zip(
                sizes, [side] * len(sizes) if merges is None else merges.tolist(), strict=True
            )
            for _ in range(frames)
        ]
    if pixels.ndim != 4:
        raise no_grid(tower, "its pictures are not of one size")
    most = tokens[0] if len(set(tokens)) == 1 else 0
    return [grid_of_picture(pixels, patch, most)] * pixels.shape[0]
