"""From a world to frames, one at a time: each follows from its number alone, so a stream needs no more memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from framefusion.evaluation.long_streams.world import World
from framefusion.evaluation.synthetic_questions.render import (
    REACH,
    as_filmed,
    ground,
    paint_digit,
    paint_flash,
    paint_thing,
)
from framefusion.evaluation.synthetic_questions.scene import SIDE

SWAY = (300, 900)
"""Frames in which the camera sways to and fro, the least and the most."""
STILL = 0.3
"""Share of the streams whose camera stands still."""


def film(world: World, frames: Iterable[int] | None = None) -> Iterator[np.ndarray]:
    """(SIDE, SIDE, 3) uint8 RGB each: all of the stream, or the given `frames` of it, in any order."""
    draw = np.random.default_rng(world.look)
    place = ground(draw)
    reach = np.zeros(2) if draw.random() < STILL else draw.uniform(-REACH, REACH, 2)
    period, grain, blocks = draw.uniform(*SWAY), int(draw.integers(2, 9)), float(draw.uniform(0.0, 0.35))
    for number in range(world.frames) if frames is None else frames:
        row, column = (int(REACH + 8 + part * np.sin(2 * np.pi * number / period)) for part in reach)
        picture = place[None, row : row + SIDE, column : column + SIDE].copy()
        visit = world.visit_at(number)
        if visit is not None:
            since = number - visit.first
            paint_thing(picture[0], visit.thing, visit.thing.at(since))
            if visit.digit is not None and visit.digit.first <= since <= visit.digit.last:
                paint_digit(picture[0], visit.digit)
            if visit.flash is not None and since == visit.flash.frame:
                paint_flash(picture[0], visit.flash)
        yield as_filmed(picture, np.random.default_rng([world.look, number]), grain, blocks)[0]
