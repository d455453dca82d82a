"""What each visual token shows, as numbers the renderer knows: the teacher of the tower and of the visual states.

Per frame G × G tokens of CELL × CELL pixels, K colours. A thing belongs to the channel of its colour, because no two
things of a scene share one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from framefusion.evaluation.synthetic_questions import FRAMES, SIDE, Scene
from framefusion.evaluation.synthetic_questions.scene import CHANGES, COLOURS, DIRECTIONS, SHAPES
from training.architecture import CELL, GRID

COLOUR_NAMES, WAYS = tuple(COLOURS), (None, *DIRECTIONS)
NOTHING = -100
# Frames for which a change, or the appearance of a thing, counts as recent.
RECENT = 4
ROWS, COLUMNS = (np.mgrid[:GRID, :GRID] + 0.5) * CELL
NOWHERE = np.zeros((GRID, GRID), bool)


@dataclass
class Labels:
    """Arrays of one or more frames, (T, G, G, ...).

    touched, centred: K flags each. offset: K × 2, cells from the token's centre. shape: the class of the thing centred
    here, else NOTHING. radius: K. digit: class or NOTHING. digit_near: flag. flash: K flags. pixels: 2 × 2 × 3 mean
    colours. way: K classes of motion. speed: K, pixels per frame. age: K, share of the clip since the thing appeared.
    change: a class, 0 for none.
    """

    touched: np.ndarray
    centred: np.ndarray
    offset: np.ndarray
    shape: np.ndarray
    radius: np.ndarray
    digit: np.ndarray
    digit_near: np.ndarray
    flash: np.ndarray
    pixels: np.ndarray
    way: np.ndarray
    speed: np.ndarray
    age: np.ndarray
    change: np.ndarray


def label(scene: Scene, frames: list[int], clip: np.ndarray) -> Labels:
    """`clip`: (T, SIDE, SIDE, 3) uint8, the rendered `frames`."""
    count, kinds = len(frames), len(COLOUR_NAMES)
    grid = (count, GRID, GRID)
    half = SIDE // (2 * GRID)
    labels = Labels(
        touched=np.zeros((*grid, kinds), np.float32),
        centred=np.zeros((*grid, kinds), np.float32),
        offset=np.zeros((*grid, kinds, 2), np.float32),
        shape=np.full(grid, NOTHING, np.int64),
        radius=np.zeros((*grid, kinds), np.float32),
        digit=np.full(grid, NOTHING, np.int64),
        digit_near=np.zeros(grid, np.float32),
        flash=np.zeros((*grid, kinds), np.float32),
        pixels=clip.reshape(count, GRID, 2, half, GRID, 2, half, 3)
        .mean((3, 6))
        .transpose(0, 1, 3, 2, 4, 5)
        .reshape(*grid, 12)
        .astype(np.float32)
        / 128
        - 1,
        way=np.full((*grid, kinds), NOTHING, np.int64),
        speed=np.zeros((*grid, kinds), np.float32),
        age=np.zeros((*grid, kinds), np.float32),
        change=np.zeros(grid, np.int64),
    )
    for number, frame in enumerate(frames):
        _label_things(labels, scene, number, frame)
        _label_events(labels, scene, number, frame)
    return labels


def _label_things(labels: Labels, scene: Scene, number: int, frame: int) -> None:
    recent = scene.change is not None and 0 <= frame - scene.change.at < RECENT
    for thing in scene.shown(frame):
        row, column = thing.at(frame)
        down, right = (row - ROWS) / CELL, (column - COLUMNS) / CELL
        near = np.maximum(abs(down), abs(right)) < 0.5 + (0.8 * thing.radius - 2) / CELL
        colour = COLOUR_NAMES.index(thing.colour)
        labels.touched[number, near, colour] = 1
        here = np.maximum(abs(down), abs(right)) <= 0.5
        labels.centred[number, here, colour] = 1
        labels.shape[number, here] = SHAPES.index(thing.shape)
        labels.offset[number, near, colour] = np.stack([down, right], -1)[near]
        labels.radius[number, near, colour] = thing.radius / 10 - 1
        if frame - thing.appears >= RECENT:
            labels.way[number, near, colour] = WAYS.index(thing.direction)
            labels.speed[number, near, colour] = thing.speed
        labels.age[number, near, colour] = (frame - thing.appears) / FRAMES
        if recent and scene.change is not None and thing is scene.change.into:
            labels.change[number, near] = 1 + CHANGES.index(scene.change.what)


def _label_events(labels: Labels, scene: Scene, number: int, frame: int) -> None:
    change = scene.change
    if change is not None and change.what == "background" and 0 <= frame - change.at < RECENT:
        labels.change[number] = 1 + CHANGES.index("background")
    if scene.digit is not None:
        near = near_digit(scene, frame)
        labels.digit[number, near] = scene.digit.value
        labels.digit_near[number, near] = 1
    if scene.flash is not None:
        near = near_flash(scene, frame)
        labels.flash[number, near, COLOUR_NAMES.index(scene.flash.colour)] = 1
        for hidden in (labels.touched, labels.centred):
            hidden[number, near] = 0
        labels.shape[number, near] = NOTHING


def near_digit(scene: Scene, frame: int) -> np.ndarray:
    """(G, G): where it can be seen."""
    digit = scene.digit
    if digit is None or not digit.first <= frame <= digit.last:
        return NOWHERE
    return (abs(digit.place[0] - ROWS) < CELL / 2 + 9) & (abs(digit.place[1] - COLUMNS) < CELL / 2 + 6)


def near_flash(scene: Scene, frame: int) -> np.ndarray:
    """(G, G): where it can be seen; it hides what is there."""
    flash = scene.flash
    if flash is None or flash.frame != frame:
        return NOWHERE
    return (abs(flash.place[0] - ROWS) < 42) & (abs(flash.place[1] - COLUMNS) < 42)
