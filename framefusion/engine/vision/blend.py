"""What units show that were not encoded: features between those of the last and of the next encoding of their place."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from framefusion.engine.vision.encoded import Encoded, first_rows

AT_ONCE = 1024
FIELDS = ("pooler_output", "last_hidden_state", "hidden_states", "deepstack_features")


class Blend:
    """Of one run. Only what has a row for each unit of it, or a batch of its pictures, is blended.

    pictures: (B, P) where pictures come as rows of a batch, None where all are one sequence. in_place: nobody else has
    the values.
    """

    def __init__(self, encoded: Encoded, pictures: tuple[int, int] | None, in_place: bool = False) -> None:
        self.pictures, self.in_place = pictures, in_place
        starts = first_rows([grid.units if pictures is None else pictures[1] for grid in encoded.grids])
        rows = []
        for number, grid in enumerate(encoded.grids):
            unit = torch.arange(grid.units) if pictures is None else grid.unit_of_patch()
            front = 0 if pictures is None else pictures[1] - unit.numel()
            place = torch.arange(unit.numel()) + front
            weight = encoded.weight[number][unit]
            mixed = weight > 0
            following = torch.tensor(starts)[encoded.following[number]][unit]
            rows.append(((place + starts[number])[mixed], (following + place)[mixed], weight[mixed]))
        self.target, self.following, self.weight = (torch.cat(parts) for parts in zip(*rows, strict=True))
        self.count = starts[-1]

    def output(self, output: Any) -> None:
        """Change the fields of a tower's output."""
        for name in FIELDS:
            value = getattr(output, name, None)
            if isinstance(value, tuple | list):
                setattr(output, name, type(value)(self.values(part) for part in value))
            elif value is not None:
                setattr(output, name, self.values(value))

    def values(self, values: Any) -> Any:
        """(rows, D) or (B, P, D), blended."""
        batch = self.pictures is not None and isinstance(values, Tensor) and values.shape[:2] == self.pictures
        flat = values.flatten(0, 1) if batch else values
        if not isinstance(flat, Tensor) or flat.ndim != 2 or flat.shape[0] != self.count or not self.target.numel():
            return values
        if self.pictures is not None and not batch:
            return values
        if flat.requires_grad or not self.in_place:
            flat = flat.clone()
        target, following = self.target.to(flat.device), self.following.to(flat.device)
        weight = self.weight.to(flat)[:, None]
        # What follows is encoded and blended with nothing, so the order of the parts does not matter.
        for now, then, share in zip(*(part.split(AT_ONCE) for part in (target, following, weight)), strict=True):
            flat = flat.index_copy_(0, now, torch.lerp(flat.index_select(0, now), flat.index_select(0, then), share))
        return flat.view(values.shape)
