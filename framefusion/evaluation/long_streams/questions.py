"""What can be asked about a long stream after each visit. Every answer follows from the world alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from framefusion.evaluation.long_streams.world import FPS, Visit, World
from framefusion.evaluation.synthetic_questions.questions import DIGITS
from framefusion.evaluation.synthetic_questions.scene import COLOURS, DIRECTIONS, SHAPES

KINDS = ("shape", "direction", "digit", "needle", "order2")


@dataclass(frozen=True)
class LongQuestion:
    """One question. at: frames that were shown when it is asked. about: end of the oldest visit it is about, in frames.

    stream: seed of the world.
    """

    stream: int
    kind: str
    at: int
    about: int
    text: str
    answer: str
    choices: tuple[str, ...]

    @property
    def age(self) -> float:
        """Seconds since what it is about was over."""
        return (self.at - self.about) / FPS


def questions(world: World) -> list[LongQuestion]:
    """All questions of a stream, in the order of time. Which of two colours an order names first is left to chance."""
    draw = np.random.default_rng([world.look, 1])
    return [question for now in range(len(world.visits)) for question in _after(world, now, draw)]


def _after(world: World, now: int, draw: np.random.Generator) -> Iterator[LongQuestion]:
    latest = world.visits[now]
    for visit in world.visits[: now + 1]:
        for kind, text, answer, choices in _of_one(visit):
            yield LongQuestion(world.seed, kind, latest.end, visit.end, text, answer, choices)
        if visit is not latest:
            pair = tuple(str(colour) for colour in draw.permutation([visit.thing.colour, latest.thing.colour]))
            text = f"which appeared first, {pair[0]} or {pair[1]}?"
            yield LongQuestion(world.seed, "order2", latest.end, visit.end, text, visit.thing.colour, pair)


def _of_one(visit: Visit) -> Iterator[tuple[str, str, str, tuple[str, ...]]]:
    thing = visit.thing
    yield "shape", f"what shape is the {thing.colour} thing?", thing.shape, SHAPES
    yield "direction", f"which way does the {thing.colour} thing move?", str(thing.direction), tuple(DIRECTIONS)
    if visit.digit is not None:
        yield "digit", "which digit was shown?", str(visit.digit.value), DIGITS
    if visit.flash is not None:
        yield "needle", "which colour flashed?", visit.flash.colour, tuple(COLOURS)
