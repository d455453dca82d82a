"""What is asked about a scene, what a projector may learn first in front; answers are one or two words."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from training.pretrained.scene import DIRECTIONS, Scene, Thing
from training.pretrained.stamps import COLOURS, Album

PLACES = (
    ("top left", "top", "top right"),
    ("left", "middle", "right"),
    ("bottom left", "bottom", "bottom right"),
)
COUNTS = ("one", "two", "three", "four")
SIDES = {"left": (1, 1), "right": (1, -1), "top": (0, 1), "bottom": (0, -1)}
RESTING = ("single", "pair", "many")


@dataclass(frozen=True)
class Question:
    kind: str
    text: str
    answer: str


Asked = list[tuple[str, str]]


def questions(scene: Scene, album: Album) -> list[Question]:
    """All that can be asked about a scene."""
    return [Question(kind, *asked) for kind, ask in _ASK.items() for asked in ask(scene, album)]


def choices(kind: str, album: Album) -> tuple[str, ...]:
    """What may be answered to questions of a kind."""
    known = {
        "name": album.names,
        "colour": COLOURS,
        "place": tuple(place for row in PLACES for place in row),
        "count": COUNTS,
        "direction": tuple(DIRECTIONS),
    }
    return known.get(kind, album.groups)


def _word(scene: Scene, thing: Thing, album: Album) -> str:
    return "it" if len(scene.things) == 1 else f"the {album.stamps[thing.stamp].group}"


def _group(thing: Thing, album: Album) -> str:
    return album.stamps[thing.stamp].group


def _ask_name(scene: Scene, album: Album) -> Asked:
    name = album.stamps[scene.things[0].stamp].name
    return [("What is it called?", name)] if scene.plot == "single" and name else []


def _ask_group(scene: Scene, album: Album) -> Asked:
    return [("What kind of thing is it?", _group(scene.things[0], album))] if scene.plot == "single" else []


def _ask_colour(scene: Scene, album: Album) -> Asked:
    return [
        (f"What colour is {_word(scene, thing, album)}?", colour)
        for thing in scene.things
        if (colour := album.stamps[thing.stamp].colour)
    ]


def _ask_place(scene: Scene, album: Album) -> Asked:
    return [
        (f"Where is {_word(scene, thing, album)}?", PLACES[thing.cell[0]][thing.cell[1]])
        for thing in scene.things
        if thing.direction is None
    ]


def _ask_side(scene: Scene, album: Album) -> Asked:
    if scene.plot != "pair":
        return []
    asked: Asked = []
    for side, (axis, sign) in SIDES.items():
        one, other = sorted(scene.things, key=lambda thing: sign * thing.cell[axis])
        if abs(one.cell[axis] - other.cell[axis]) == 2:
            asked.append((f"What is {'at' if axis == 0 else 'on'} the {side}?", _group(one, album)))
    return asked


def _ask_count(scene: Scene, album: Album) -> Asked:
    return [("How many things are there?", COUNTS[len(scene.things) - 1])] if scene.plot in RESTING else []


def _ask_flash(scene: Scene, album: Album) -> Asked:
    return [("What was seen for a moment?", _group(scene.things[1], album))] if scene.plot == "flash" else []


def _ask_mover(scene: Scene, album: Album) -> Asked:
    return [("What moves?", _group(scene.things[0], album))] if scene.plot == "mover" else []


def _ask_direction(scene: Scene, album: Album) -> Asked:
    return [
        (f"Which way does {_word(scene, thing, album)} move?", thing.direction)
        for thing in scene.things
        if thing.direction
    ]


def _ask_order(scene: Scene, album: Album) -> Asked:
    if scene.plot != "order":
        return []
    first, last = (_group(thing, album) for thing in scene.things)
    return [("What came first?", first), ("What came last?", last)]


_ASK: dict[str, Callable[[Scene, Album], Asked]] = {
    "name": _ask_name,
    "group": _ask_group,
    "colour": _ask_colour,
    "place": _ask_place,
    "side": _ask_side,
    "count": _ask_count,
    "flash": _ask_flash,
    "mover": _ask_mover,
    "direction": _ask_direction,
    "order": _ask_order,
}
KINDS = tuple(_ASK)
# In which plots a kind is found, for a test that has as many of each.
PLOTS_OF = {
    "name": ("single",),
    "group": ("single",),
    "colour": ("single", "pair"),
    "place": ("single", "pair", "many"),
    "side": ("pair",),
    "count": ("single", "pair", "many"),
    "flash": ("flash",),
    "mover": ("mover",),
    "direction": ("single", "mover"),
    "order": ("order",),
}
