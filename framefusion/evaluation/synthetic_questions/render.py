"""From a scene to pixels: textured ground under a panning camera, things, noise, and blocks as a codec leaves them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np

from framefusion.evaluation.synthetic_questions.scene import COLOURS, FRAMES, SIDE, Digit, Flash, Scene, Thing

CELL = 8
GLYPHS = (
    "01110 10001 10011 10101 11001 10001 01110",
    "00100 01100 00100 00100 00100 00100 01110",
    "01110 10001 00001 00110 01000 10000 11111",
    "11110 00001 00001 01110 00001 00001 11110",
    "00010 00110 01010 10010 11111 00010 00010",
    "11111 10000 11110 00001 00001 10001 01110",
    "00110 01000 10000 11110 10001 10001 01110",
    "11111 00001 00010 00100 01000 01000 01000",
    "01110 10001 10001 01110 10001 10001 01110",
    "01110 10001 10001 01111 00001 00010 01100",
)
REACH = 46


def render(scene: Scene, frames: Sequence[float] = range(FRAMES)) -> np.ndarray:
    """(T, SIDE, SIDE, 3) uint8 RGB: the whole clip, or other moments (their noise is then another one).

    frames: moments to show, in frames of the scene, whole or between them. The flash is seen at its own only.
    """
    draw = np.random.default_rng(scene.look)
    grounds = [ground(draw) for _ in range(2)]
    pan = draw.uniform(-1.6, 1.6, 2) if draw.random() < 0.7 else np.zeros(2)
    grain, blocks = int(draw.integers(2, 9)), float(draw.uniform(0.0, 0.35))
    clip = np.empty((len(frames), SIDE, SIDE, 3), np.uint8)
    for picture, frame in zip(clip, frames, strict=True):
        new = scene.change is not None and scene.change.what == "background" and frame >= scene.change.at
        row, column = (int(REACH + 8 + part * (frame - FRAMES / 2)) for part in pan)
        picture[:] = grounds[new][row : row + SIDE, column : column + SIDE]
        for thing in scene.shown(frame):
            paint_thing(picture, thing, thing.at(frame))
        if scene.pillar is not None:
            picture[:, scene.pillar - 6 : scene.pillar + 6] = stripes()
        if scene.digit is not None and scene.digit.first <= frame <= scene.digit.last:
            paint_digit(picture, scene.digit)
        if scene.flash is not None and frame == scene.flash.frame:
            paint_flash(picture, scene.flash)
    return as_filmed(clip, draw, grain, blocks)


def ground(draw: np.random.Generator) -> np.ndarray:
    """Soft blocks of one dull tone with a fine texture, larger than the picture by the reach of the camera."""
    side = SIDE + 2 * (REACH + 8)
    cell = int(draw.choice([7, 14, 20, 28]))
    count = side // cell + 1
    tone = draw.integers(35, 130, 3) * 0.6 + draw.integers(35, 130) * 0.4
    coarse = tone + draw.normal(0, draw.uniform(6, 26), (count, count, 1)) + draw.normal(0, 6, (count, count, 3))
    ground = np.repeat(np.repeat(coarse, cell, 0), cell, 1)[:side, :side]
    return (ground + draw.integers(-9, 10, (side, side, 1))).clip(0, 170).astype(np.uint8)


@cache
def stripes() -> np.ndarray:
    rows = np.arange(SIDE)[:, None, None] // 6 % 2
    return np.broadcast_to((52 + 26 * rows).astype(np.uint8), (SIDE, 12, 3))


@cache
def mask_of(shape: str, radius: int) -> np.ndarray:
    """(2r + 1, 2r + 1) bool: the pixels of a shape."""
    rows, columns = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    away = rows**2 + columns**2
    if shape == "circle":
        return away <= radius**2
    if shape == "ring":
        return (away <= radius**2) & (away >= (0.55 * radius) ** 2)
    if shape == "square":
        return np.maximum(abs(rows), abs(columns)) <= round(0.9 * radius)
    if shape == "cross":
        return np.minimum(abs(rows), abs(columns)) <= max(2, round(0.3 * radius))
    return 2 * abs(columns) <= rows + radius


def _paint(picture: np.ndarray, mask: np.ndarray, centre: tuple[int, int], colour: np.ndarray) -> None:
    """Set the masked pixels around `centre`, cut at the border of the picture."""
    height, width = mask.shape
    top, left = centre[0] - height // 2, centre[1] - width // 2
    rows = slice(max(top, 0), min(top + height, SIDE))
    columns = slice(max(left, 0), min(left + width, SIDE))
    inside = mask[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
    picture[rows, columns][inside] = colour


def paint_thing(picture: np.ndarray, thing: Thing, centre: tuple[int, int]) -> None:
    _paint(picture, mask_of(thing.shape, thing.radius), centre, np.array(COLOURS[thing.colour], np.uint8))


@cache
def _glyph(value: int) -> np.ndarray:
    rows = [[character == "1" for character in row] for row in GLYPHS[value].split()]
    return np.kron(np.array(rows), np.ones((3, 3), bool)).astype(bool)


def paint_digit(picture: np.ndarray, digit: Digit) -> None:
    _paint(picture, np.ones((27, 21), bool), digit.place, np.array((8, 8, 8), np.uint8))
    _paint(picture, _glyph(digit.value), digit.place, np.array((250, 250, 235), np.uint8))


def paint_flash(picture: np.ndarray, flash: Flash) -> None:
    rows, columns = np.mgrid[:84, :84]
    board = (rows // 12 + columns // 12) % 2 == 0
    bright = np.array(COLOURS[flash.colour], np.uint8)
    _paint(picture, board, flash.place, bright)
    _paint(picture, ~board, flash.place, (bright * 0.6).astype(np.uint8))


@cache
def _grain() -> np.ndarray:
    """A sheet of unit noise from which every frame takes another corner."""
    return np.random.default_rng(0).normal(0, 1, (4 * SIDE, 4 * SIDE, 1)).astype(np.float32)


def as_filmed(clip: np.ndarray, draw: np.random.Generator, grain: int, blocks: float) -> np.ndarray:
    """Add noise, then blend every picture with the means of its 8 × 8 blocks as strong compression does."""
    cells = SIDE // CELL
    sheet = _grain() * grain
    for picture in clip:
        row, column = draw.integers(0, 3 * SIDE, 2)
        soft = picture + sheet[row : row + SIDE, column : column + SIDE]
        if blocks > 0.1:
            shaped = soft.reshape(cells, CELL, cells, CELL, 3)
            means = shaped.mean((1, 3), keepdims=True)
            soft = ((1 - blocks) * shaped + blocks * means).reshape(SIDE, SIDE, 3)
        np.clip(soft, 0, 255, out=soft)
        picture[:] = soft
    return clip
