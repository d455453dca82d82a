"""What a method is told that asks for attention where none exists yet."""

from __future__ import annotations

from typing import TYPE_CHECKING

from framefusion.errors import UnsupportedPointError

if TYPE_CHECKING:
    from framefusion.method import Point


def no_attention(point: Point) -> UnsupportedPointError:
    """The error of asking for attention at a point that no attention layer ran before."""
    return UnsupportedPointError(
        f"there is no attention to score tokens with {point}",
        "the layers before it are recurrent",
        "choose a later layer",
    )
