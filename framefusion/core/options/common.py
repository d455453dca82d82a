"""Declarations that several methods share."""

from __future__ import annotations

from typing import Annotated

from framefusion.core.options.limits import Interval, OneOf

Count = Annotated[int, Interval("[1, inf)")]
Share = Annotated[float, Interval("(0, 1]", noun="fraction")]
Keep = Share | Annotated[int, Interval("[1, inf)", noun="count")]
"""A fraction of the tokens, or their number."""

Mix = Annotated[float, Interval("[0, 1]")]
Cosine = Annotated[float, Interval("[-1, 1]", noun="cosine")]
Sigma = Annotated[float, Interval("[0.001, 1000000]", why="beyond, its square leaves what float32 holds")]

Seed = Annotated[int, Interval("[0, inf)")]

Rate = Annotated[float, Interval("(0, 1000000]")]
"""Frames per second."""

DTYPES = ("auto", "float32", "bfloat16", "float16")
"""Names of what a checkpoint can be loaded in."""

Layer = Annotated[int, Interval("[0, inf)")]
AttendedLayer = Annotated[int, Interval("[1, inf)", why="no attention runs before layer 0")]
"""A decoder layer before which there was attention."""

TowerLayer = Annotated[int, OneOf(-1, -2, why="only the tower's last two layers are watched")]
"""An attention layer of the vision tower: -1 the last, -2 the one before it."""
