"""Where a stage acts: places in the decoder, and in front of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Place = Literal["before", "after_attention"]


@dataclass(frozen=True, order=True)
class Point:
    """A place in the decoder: before layer `layer`, or between that layer's attention and its MLP.

    The point before layer 0 is the prompt point. Layers below 0 stand for places before the decoder.
    """

    layer: int
    place: Place

    def __str__(self) -> str:
        if self.layer < 0:
            return "in front of the projector" if self == IN_FRONT else "inside the vision tower"
        return f"{'before' if self.place == 'before' else 'after attention of'} layer {self.layer}"


IN_FRONT = Point(-1, "before")
"""The point in front of the projector."""

INSIDE = Point(-2, "before")
"""Inside the vision tower."""


def before(layer: int) -> Point:
    return Point(layer, "before")


def after_attention(layer: int) -> Point:
    return Point(layer, "after_attention")
