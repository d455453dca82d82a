"""What happens in a long stream: a quiet place that a thing of each colour visits once. Positions are (row, column)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Annotated

import numpy as np

from framefusion.core.options import Interval, Seed, checked
from framefusion.evaluation.synthetic_questions.samples import UNSEEN
from framefusion.evaluation.synthetic_questions.scene import (
    COLOURS,
    DIRECTIONS,
    FAST,
    LARGEST,
    MARGIN,
    SHAPES,
    SIDE,
    SMALLEST,
    Digit,
    Flash,
    Thing,
)

HOUR = 7200
"""Frames of an hour."""
FPS = HOUR / 3600
"""Frames per second of the stream."""
VISIT = 16
"""Frames that a visit lasts."""
QUIET = 8
"""Frames between two visits, at least."""
SPREAD = 6.0
"""The longest quiet time is up to two to the power of this many times the shortest, so that ages of all sizes occur."""
TRIES = 100


@dataclass(frozen=True)
class Visit:
    """From frame `first` on `thing` is there for `VISIT` frames; a digit and a flash count frames from `first`."""

    first: int
    thing: Thing
    digit: Digit | None = None
    flash: Flash | None = None

    @property
    def end(self) -> int:
        """The first frame without it."""
        return self.first + VISIT


@dataclass(frozen=True)
class World:
    """A stream of `frames` frames. look: seeds what carries no answer. visits: in the order of time."""

    seed: int
    frames: int
    visits: tuple[Visit, ...]
    look: int

    def visit_at(self, frame: int) -> Visit | None:
        return next((visit for visit in self.visits if visit.first <= frame < visit.end), None)


def draw_world(seed: int, frames: int = HOUR) -> World:
    """The stream of `seed`: as many visits as there are colours, fewer in a stream too short for them.

    One of the visitors shows a digit, another one comes with a flash, so that both happen once in a stream.

    Raises OptionError for a stream shorter than one visit, and for a negative seed.
    """
    frames = checked("frames", Annotated[int, Interval(f"[{VISIT + QUIET}, inf)")], frames)
    seed = checked("seed", Seed, seed)
    draw = np.random.default_rng([UNSEEN, seed])
    count = min(len(COLOURS), frames // (VISIT + QUIET))
    colours = draw.permutation(list(COLOURS))[:count]
    visits = [
        Visit(first, _thing(draw, str(colour)))
        for first, colour in zip(_firsts(draw, count, frames), colours, strict=True)
    ]
    with_digit, with_flash = draw.permutation(count)[:2] if count > 1 else (0, None)
    visits[with_digit] = replace(visits[with_digit], digit=_digit(draw, visits[with_digit].thing))
    if with_flash is not None:
        visits[with_flash] = replace(visits[with_flash], flash=_flash(draw))
    return World(seed, frames, tuple(visits), look=int(draw.integers(2**31)))


def _firsts(draw: np.random.Generator, count: int, frames: int) -> list[int]:
    """Frames at which visits begin; the last one ends with the stream."""
    spare = frames - count * (VISIT + QUIET)
    parts = 2.0 ** draw.uniform(0, SPREAD, count)
    quiet = np.floor(spare * parts / parts.sum()).astype(int)
    quiet[0] += spare - quiet.sum()
    return list(accumulate((QUIET + int(more) + VISIT for more in quiet), initial=-VISIT))[1:]


def _thing(draw: np.random.Generator, colour: str) -> Thing:
    """One that moves, and is in full sight all the time."""
    row, column = DIRECTIONS[str(draw.choice(list(DIRECTIONS)))]
    speed = float(draw.uniform(*FAST))
    velocity = (row * speed, column * speed)
    start = []
    for part in velocity:
        travel = part * (VISIT - 1)
        start.append(float(draw.uniform(MARGIN - min(travel, 0), SIDE - MARGIN - max(travel, 0))))
    radius = int(draw.integers(SMALLEST, LARGEST + 1))
    return Thing(colour, str(draw.choice(SHAPES)), radius, (start[0], start[1]), velocity)


def _digit(draw: np.random.Generator, thing: Thing) -> Digit:
    first = int(draw.integers(0, VISIT - 7))
    for _ in range(TRIES):
        place = int(draw.integers(16, SIDE - 16)), int(draw.integers(14, SIDE - 14))
        if all(np.hypot(*np.subtract(place, thing.at(frame))) > thing.radius + 17 for frame in range(VISIT)):
            break
    return Digit(int(draw.integers(10)), place, first, first + 6)


def _flash(draw: np.random.Generator) -> Flash:
    place = int(draw.integers(48, SIDE - 48)), int(draw.integers(48, SIDE - 48))
    return Flash(str(draw.choice(list(COLOURS))), int(draw.integers(1, VISIT - 1)), place)
