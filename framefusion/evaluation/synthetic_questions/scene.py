"""What happens in a clip: things that move, appear and change, a digit, a flash. Positions are (row, column) pixels."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

FRAMES, SIDE, FPS = 32, 112, 8.0
COLOURS = {
    "red": (222, 45, 40),
    "green": (50, 175, 60),
    "blue": (45, 85, 230),
    "yellow": (240, 215, 50),
    "pink": (240, 110, 200),
    "cyan": (60, 215, 225),
    "white": (245, 245, 245),
}
SHAPES = ("circle", "square", "triangle", "cross", "ring")
DIRECTIONS = {"left": (0, -1), "right": (0, 1), "up": (-1, 0), "down": (1, 0)}
CHANGES = ("colour", "shape", "size", "background")

MARGIN = 14
SMALLEST, LARGEST = 8, 13
SLOW, FAST = (0.5, 0.9), (1.6, 2.4)
# Frames between two things that appear, and between an event and either end of the clip.
APART, EDGE = 4, 3
TRIES = 60


@dataclass(frozen=True)
class Thing:
    """One coloured shape. It is there from frame `appears` on and moves `velocity` pixels per frame."""

    colour: str
    shape: str
    radius: int
    start: tuple[float, float]
    velocity: tuple[float, float] = (0.0, 0.0)
    appears: int = 0

    def at(self, frame: float) -> tuple[int, int]:
        row, column = (self.start[axis] + self.velocity[axis] * frame for axis in (0, 1))
        return round(row), round(column)

    @property
    def end(self) -> tuple[int, int]:
        return self.at(FRAMES - 1)

    @property
    def direction(self) -> str | None:
        signs = tuple(int(np.sign(part)) for part in self.velocity)
        return next((name for name, step in DIRECTIONS.items() if step == signs), None)

    @property
    def speed(self) -> float:
        return max(abs(part) for part in self.velocity)


@dataclass(frozen=True)
class Change:
    """From frame `at` on `thing` looks like `into`; for the background both are None."""

    what: str
    at: int
    thing: int | None = None
    into: Thing | None = None


@dataclass(frozen=True)
class Digit:
    value: int
    place: tuple[int, int]
    first: int
    last: int


@dataclass(frozen=True)
class Flash:
    """The needle: a coloured pattern over most of one frame."""

    colour: str
    frame: int
    place: tuple[int, int]


@dataclass(frozen=True)
class Scene:
    """`look` seeds what carries no answer: textures, pan, noise, artefacts. `pillar` is the column of an occluder."""

    seed: int
    things: tuple[Thing, ...]
    change: Change | None
    digit: Digit | None
    flash: Flash | None
    pillar: int | None
    look: int

    def shown(self, frame: float) -> list[Thing]:
        """The things of one frame as they look then, the lowest first."""
        change = self.change
        changed = change is not None and frame >= change.at
        return [
            change.into if changed and change.thing == number else thing  # type: ignore[union-attr, misc]
            for number, thing in enumerate(self.things)
            if frame >= thing.appears
        ]


def draw_scene(seed: int) -> Scene:
    """The scene of `seed`: 2 to 6 things of different colours; the rest comes and goes."""
    draw = np.random.default_rng(seed)
    pillar = int(draw.integers(30, SIDE - 30)) if draw.random() < 0.35 else None
    things = _things(draw, pillar)
    change = _change(draw, things)
    return Scene(
        seed,
        things,
        change,
        digit=_digit(draw, things, pillar) if draw.random() < 0.7 else None,
        flash=_flash(draw) if draw.random() < 0.6 else None,
        pillar=pillar,
        look=int(draw.integers(2**31)),
    )


def _things(draw: np.random.Generator, pillar: int | None) -> tuple[Thing, ...]:
    wanted = int(draw.integers(2, 7))
    late = int(draw.choice([count for count in (0, 2, 3) if count <= wanted]))
    colours = draw.permutation(list(COLOURS))
    times = _apart(draw, late)
    things: list[Thing] = []
    for number in range(wanted):
        for _ in range(TRIES):
            thing = _thing(draw, str(colours[number]), times[number] if number < late else 0)
            if _fits(thing, things, pillar):
                things.append(thing)
                break
    # Late things come first in the draw, so that a crowded scene loses others; which lies on top is left to chance.
    return tuple(things[number] for number in draw.permutation(len(things)))


def _apart(draw: np.random.Generator, count: int) -> list[int]:
    while True:
        times = sorted(int(time) for time in draw.integers(EDGE, FRAMES - EDGE - 2, count))
        if all(after - before >= APART for before, after in pairwise(times)):
            return [times[number] for number in draw.permutation(count)]


def _thing(draw: np.random.Generator, colour: str, appears: int) -> Thing:
    radius = int(draw.integers(SMALLEST, LARGEST + 1))
    velocity = (0.0, 0.0)
    if not appears and draw.random() < 0.85:
        row, column = DIRECTIONS[str(draw.choice(list(DIRECTIONS)))]
        speed = float(draw.uniform(*(FAST if draw.random() < 0.5 else SLOW)))
        velocity = (row * speed, column * speed)
    start = []
    for part in velocity:
        travel = part * (FRAMES - 1)
        start.append(float(draw.uniform(MARGIN - min(travel, 0), SIDE - MARGIN - max(travel, 0))))
    return Thing(colour, str(draw.choice(SHAPES)), radius, (start[0], start[1]), velocity, appears)


def _fits(thing: Thing, others: list[Thing], pillar: int | None) -> bool:
    """Start and end are in plain sight, and so is the end of every other thing."""
    if pillar is not None and any(
        abs(place[1] - pillar) < thing.radius + 8 for place in (thing.at(thing.appears), thing.end)
    ):
        return False
    for other in others:
        near = thing.radius + other.radius + 2
        if _distance(thing.end, other.end) < near or _distance(thing.at(0), other.at(0)) < near:
            return False
    return True


def _distance(one: tuple[float, float], other: tuple[float, float]) -> float:
    return float(np.hypot(one[0] - other[0], one[1] - other[1]))


def _change(draw: np.random.Generator, things: tuple[Thing, ...]) -> Change | None:
    steady = [number for number, thing in enumerate(things) if not thing.appears]
    what, at = str(draw.choice(CHANGES)), int(draw.integers(8, FRAMES - 8))
    if draw.random() < 0.45:
        return None
    if what == "background":
        return Change(what, at)
    if not steady:
        return None
    number = int(draw.choice(steady))
    thing = things[number]
    if what == "colour":
        free = [colour for colour in COLOURS if colour not in {other.colour for other in things}]
        into = replace(thing, colour=str(draw.choice(free)))
    elif what == "shape":
        into = replace(thing, shape=str(draw.choice([shape for shape in SHAPES if shape != thing.shape])))
    else:
        into = replace(thing, radius=thing.radius + 6 if thing.radius < 11 else thing.radius - 5)
    return Change(what, at, number, into)


def _digit(draw: np.random.Generator, things: tuple[Thing, ...], pillar: int | None) -> Digit | None:
    first = int(draw.integers(0, FRAMES - 8))
    last = first + int(draw.integers(5, 13))
    for _ in range(TRIES):
        place = int(draw.integers(16, SIDE - 16)), int(draw.integers(14, SIDE - 14))
        clear = all(
            _distance(place, spot) > thing.radius + 17
            for thing in things
            for spot in (thing.at(thing.appears), thing.end)
        )
        if clear and (pillar is None or abs(place[1] - pillar) > 20):
            return Digit(int(draw.integers(10)), place, first, min(last, FRAMES - 1))
    return None


def _flash(draw: np.random.Generator) -> Flash:
    place = int(draw.integers(48, SIDE - 48)), int(draw.integers(48, SIDE - 48))
    return Flash(str(draw.choice(list(COLOURS))), int(draw.integers(1, FRAMES - 1)), place)
