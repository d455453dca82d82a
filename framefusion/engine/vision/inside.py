"""What a stage inside the vision tower has done so far in one run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import isqrt
from typing import TYPE_CHECKING, Any

import torch

from framefusion.core.layout import MARKER, Geometry
from framefusion.core.plan import Plan
from framefusion.engine.model.tensor_parallel import gathered, sharing_heads
from framefusion.engine.vision.survivors import Survivors
from framefusion.models.layout_rules import flat_frames

if TYPE_CHECKING:
    from torch import Tensor, nn

    from framefusion.engine.attention_call import AttentionCall


@dataclass(eq=False)
class Inside:
    """Of one run, or of one window of it.

    left: the rows that are left. geometries: of the rows of each picture. keys: of the attention of the block under
    way, as it was called. entered: hidden states (K, D) that entered that block. whole: blocks to come whose attention
    reads all rows. reads_all: whether that of the block under way does.
    """

    left: Survivors
    geometries: list[Geometry]
    keys: list[tuple[nn.Module, int, Tensor]] = field(default_factory=list)
    entered: Tensor | None = None
    whole: int = 0
    reads_all: bool = False

    @staticmethod
    def begin(hidden: Tensor, grouped: Sequence[int] | None, class_token: bool) -> Inside:
        """hidden: (S, D) of pictures of `grouped` patches, or (B, P, D). class_token: whether one stands in front."""
        device = hidden.device
        if grouped is not None:
            return Inside(Survivors(grouped, None, device), [Geometry.flat(1, count).to(device) for count in grouped])
        count, rows = hidden.shape[:2]
        one = _geometry(rows, class_token).to(device)
        return Inside(Survivors([rows] * count, (count, rows), device), [one] * count)

    def saw(self, module: nn.Module, call: AttentionCall) -> None:
        self.keys.append((module, call.query.shape[1], call.key.detach()))

    def all_keys(self) -> Tensor:
        """(K, H, d) keys of the block under way."""
        parts = [gathered(key, 1, sharing_heads(module, heads)) for module, heads, key in self.keys]
        return torch.cat([part.transpose(1, 2).flatten(0, 1) for part in parts])

    def shaped(self, hidden: Tensor) -> Tensor:
        """(K, D) as the blocks take it."""
        return hidden if self.left.batch is None else hidden.view(self.left.batch[0], -1, hidden.shape[-1])

    def after(self, number: int, states: Tensor) -> Tensor:
        """What block `number` returned, of all rows; -1 for what entered the first one."""
        if number < 0 or states.shape[:-1].numel() == self.left.count:
            return states
        whole = self.left.after(number, flat(states))
        return whole if self.left.batch is None else whole.view(*self.left.batch, -1)

    def patches(self) -> list[int]:
        """Of each picture, tokens in front of them left out."""
        return [int((geometry.kind != MARKER).sum()) for geometry in self.geometries]

    def counts(self) -> tuple[int, int]:
        """Patches that are left, and patches there are."""
        every = sum(self.patches())
        return self.left.keep.numel() - (self.left.count - every), every

    def plans(self) -> list[Plan]:
        """What merged into what so far, of each picture, tokens in front of the patches left out."""
        made, start = [], 0
        for slots, geometry in zip(self.left.slots(), self.geometries, strict=True):
            rows, first = len(geometry), int((geometry.kind == MARKER).sum())
            keep = self.left.keep[slots][first:] - start - first
            owner = self.left.home[start + first : start + rows] - slots.start - first
            made.append(Plan(rows - first, keep, owner))
            start += rows
        return made


MOST_IN_FRONT = 9
"""A class token and registers; what is further from a square is another shape."""


def _geometry(rows: int, class_token: bool) -> Geometry:
    """A square grid, behind a class token (and registers) where there is one; else the patches in a line."""
    fronts = range(int(class_token), MOST_IN_FRONT if class_token else 2)
    front = next((front for front in fronts if isqrt(rows - front) ** 2 == rows - front), int(class_token))
    return Geometry.cat([*[Geometry.mark()] * front, flat_frames(1, rows - front)])


def flat(hidden: Any) -> Any:
    """(B, P, D) -> (B * P, D)"""
    return hidden.flatten(0, 1) if hidden.ndim == 3 else hidden
