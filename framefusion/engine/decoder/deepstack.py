"""DeepStack: visual features that a model adds to its visual tokens after its first layers.

The decoder's loop would add them at full length, so they are taken out of its inputs and added before the next layer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from framefusion.engine.model.releases import LAYER_MASK, LAYER_PLANES, PLANE_MASK, PLANES

if TYPE_CHECKING:
    from torch import Tensor

    from framefusion.engine.sequence.reduce import ReductionStep
    from framefusion.engine.sequence.state import SequenceState


def take_planes(given: dict[str, Any]) -> list[list[Tensor]]:
    """Features by the layer they are added behind, and by row, (N, D) each, aligned with the row's visual tokens.

    Nothing for a layer without; none of them stays in `given`. Granite adds some in front of its first layer, where the
    prompt is whole: these stay.
    """
    if given.get(PLANES) is not None and given.get(PLANE_MASK) is not None:
        planes, mask = given[PLANES], given[PLANE_MASK]
        given[PLANES] = given[PLANE_MASK] = None
    elif given.get(LAYER_PLANES):
        by_layer, mask = given[LAYER_PLANES], given[LAYER_MASK][..., 0]
        planes = [by_layer.get(layer) for layer in range(1, max(by_layer) + 1)]
        given[LAYER_PLANES] = {0: by_layer[0]} if 0 in by_layer else None
    else:
        return []
    counts = mask.sum(1).tolist()
    return [[] if plane is None else list(torch.split(plane, counts)) for plane in planes]


class DeepStack:
    """Adds what `take_planes` took, reduced by the same steps as the tokens. steps: those taken so far, in order."""

    def __init__(self, planes: list[list[Tensor]]) -> None:
        self.planes = planes
        self.steps: list[ReductionStep] = []
        self._added: dict[int, tuple[list[Tensor], tuple[ReductionStep, ...]]] = {}

    def add(self, layer: int, hidden: Tensor, state: SequenceState | None) -> Tensor:
        """What the model adds after `layer`. state: the sequence now; None in a replay, which adds the same again."""
        if state is not None and 0 <= layer < len(self.planes) and self.planes[layer]:
            self._added[layer] = ([row.slots for row in state.rows], tuple(self.steps))
        if layer not in self._added:
            return hidden
        hidden = hidden.clone()
        slots, steps = self._added[layer]
        rows = self.planes[layer]
        # Reduced here, where gradients are recorded: decisions are made without.
        for step in steps:
            rows = step.apply_to_visual(rows)
        for number, (places, plane) in enumerate(zip(slots, rows, strict=True)):
            places = places.to(hidden.device)
            hidden[number, places] = hidden[number, places] + plane.to(hidden.device, hidden.dtype)
        return hidden

    def clear(self) -> None:
        self.planes, self._added = [], {}
