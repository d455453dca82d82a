"""What can be asked about a scene. Every answer follows from the scene alone; unclear cases are not asked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations, permutations

import numpy as np

from framefusion.evaluation.synthetic_questions.scene import CHANGES, COLOURS, DIRECTIONS, SHAPES, SIDE, Scene, Thing

PLACES = ("top left", "top right", "bottom left", "bottom right")
COUNTS = ("2", "3", "4", "5", "6")
DIGITS = tuple(str(value) for value in range(10))
# Pixels by which a place or a relation must be clear.
CLEAR_PLACE, CLEAR_SIDE = 8, 16
# How many times faster the faster one must be.
CLEAR_SPEED = 1.7


@dataclass(frozen=True)
class Question:
    kind: str
    text: str
    answer: str
    choices: tuple[str, ...]


Asked = list[tuple[str, str, tuple[str, ...]]]


def questions(scene: Scene, kind: str | None = None) -> list[Question]:
    """All that can be asked, or all of one kind; possibly nothing."""
    kinds = KINDS if kind is None else (kind,)
    return [Question(name, *asked) for name in kinds for asked in _ASK[name](scene)]


def chance(kind: str) -> float:
    """Share of right answers by guessing among the choices."""
    return _CHANCE[kind]


def pick(scene: Scene, kind: str, draw: np.random.Generator) -> Question | None:
    """One question of `kind`, or None where the scene has none."""
    possible = questions(scene, kind)
    return possible[int(draw.integers(len(possible)))] if possible else None


def _steady(scene: Scene) -> list[Thing]:
    """The things that look the same all through."""
    changed = scene.change.thing if scene.change else None
    return [thing for number, thing in enumerate(scene.things) if number != changed]


def _moving(scene: Scene) -> list[Thing]:
    changed = scene.change.thing if scene.change else None
    kept = scene.change is None or scene.change.what != "colour"
    return [
        thing
        for number, thing in enumerate(scene.things)
        if thing.direction is not None and (kept or number != changed)
    ]


def _late(scene: Scene) -> list[Thing]:
    return sorted((thing for thing in scene.things if thing.appears), key=lambda thing: thing.appears)


def _colour(scene: Scene) -> Asked:
    shapes = Counter(thing.shape for thing in scene.things)
    if scene.change is not None and scene.change.into is not None:
        shapes[scene.change.into.shape] += 1
    return [
        (f"what colour is the {thing.shape}?", thing.colour, tuple(COLOURS))
        for thing in _steady(scene)
        if shapes[thing.shape] == 1
    ]


def _shape(scene: Scene) -> Asked:
    return [(f"what shape is the {thing.colour} thing?", thing.shape, SHAPES) for thing in _steady(scene)]


def _count(scene: Scene) -> Asked:
    return [("how many things are there?", str(len(scene.things)), COUNTS)] if len(scene.things) > 1 else []


def _direction(scene: Scene) -> Asked:
    return [
        (f"which way does the {thing.colour} thing move?", str(thing.direction), tuple(DIRECTIONS))
        for thing in _moving(scene)
    ]


def _speed(scene: Scene) -> Asked:
    return [
        (
            f"which is faster, {one.colour} or {other.colour}?",
            max(one, other, key=lambda thing: thing.speed).colour,
            pair,
        )
        for one, other in permutations(_moving(scene), 2)
        if max(one.speed, other.speed) > CLEAR_SPEED * min(one.speed, other.speed)
        for pair in [(one.colour, other.colour)]
    ]


def _position(scene: Scene) -> Asked:
    middle = SIDE / 2
    asked: Asked = []
    for thing in _steady(scene):
        row, column = thing.end
        if min(abs(row - middle), abs(column - middle)) >= CLEAR_PLACE:
            answer = f"{'top' if row < middle else 'bottom'} {'left' if column < middle else 'right'}"
            asked.append((f"where is the {thing.colour} thing at the end?", answer, PLACES))
    return asked


def _relation(scene: Scene) -> Asked:
    return [
        (
            f"is {one.colour} left or right of {other.colour} at the end?",
            "left" if one.end[1] < other.end[1] else "right",
            ("left", "right"),
        )
        for one, other in permutations(_steady(scene), 2)
        if abs(one.end[1] - other.end[1]) >= CLEAR_SIDE
    ]


def _order_of_two(scene: Scene) -> Asked:
    late = _late(scene)
    return [
        (f"which appeared first, {one.colour} or {other.colour}?", first.colour, (one.colour, other.colour))
        for first, second in combinations(late, 2)
        for one, other in ((first, second), (second, first))
    ]


def _order_of_three(scene: Scene) -> Asked:
    late = [thing.colour for thing in _late(scene)]
    if len(late) != 3:
        return []
    orders = tuple(" ".join(order) for order in permutations(sorted(late)))
    return [
        (f"in which order did {a}, {b} and {c} appear?", " ".join(late), orders)
        for a, b, c in permutations(sorted(late))
    ]


def _needle(scene: Scene) -> Asked:
    return [] if scene.flash is None else [("which colour flashed?", scene.flash.colour, tuple(COLOURS))]


def _digit(scene: Scene) -> Asked:
    return [] if scene.digit is None else [("which digit was shown?", str(scene.digit.value), DIGITS)]


def _change(scene: Scene) -> Asked:
    return [] if scene.change is None else [("what changed?", scene.change.what, CHANGES)]


_ASK: dict[str, Callable[[Scene], Asked]] = {
    "colour": _colour,
    "shape": _shape,
    "count": _count,
    "direction": _direction,
    "speed": _speed,
    "position": _position,
    "relation": _relation,
    "order2": _order_of_two,
    "order3": _order_of_three,
    "needle": _needle,
    "digit": _digit,
    "change": _change,
}
KINDS = tuple(_ASK)
_CHANCE = {
    "colour": 1 / len(COLOURS),
    "shape": 1 / len(SHAPES),
    "count": 1 / len(COUNTS),
    "direction": 1 / len(DIRECTIONS),
    "speed": 1 / 2,
    "position": 1 / len(PLACES),
    "relation": 1 / 2,
    "order2": 1 / 2,
    "order3": 1 / 6,
    "needle": 1 / len(COLOURS),
    "digit": 1 / len(DIGITS),
    "change": 1 / len(CHANGES),
}
