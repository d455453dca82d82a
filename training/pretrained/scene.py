"""Small clips: stamps that rest, move, come and go over frames of a real clip, the same for the same seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from framefusion.core.errors import OptionError
from training.pretrained.halves import SIDE
from training.pretrained.stamps import Album

FRAMES = 8
# Frames of real clips are kept at this size and cut to a part of at least SIDE.
GROUND, GROUND_FRAMES = 192, 96
# Of each clip: the later frames are for the test.
TRAINED_ON = 0.7
CELL = SIDE / 3
DIRECTIONS = {"left": (0, -1), "right": (0, 1), "up": (-1, 0), "down": (1, 0)}
STILL_PLOTS, PLOTS = ("single", "pair", "many"), ("single", "pair", "many", "mover", "flash", "order")
# Longer side of a thing in pixels.
SIZES = {"single": (48, 76), "many": (32, 40)}
USUAL = (40, 54)


@dataclass(frozen=True)
class Thing:
    """stamp: its number. start, end: row and column of its middle. first, last: frames in which it is seen."""

    stamp: int
    size: int
    start: tuple[float, float]
    end: tuple[float, float]
    first: int
    last: int
    direction: str | None = None

    @property
    def cell(self) -> tuple[int, int]:
        """Third of the height and of the width."""
        return int(self.start[0] // CELL), int(self.start[1] // CELL)


@dataclass(frozen=True)
class Scene:
    """plot: what happens. ground: clip, first frame, side and corner of the part that is seen behind the things."""

    plot: str
    frames: int
    things: tuple[Thing, ...]
    ground: tuple[int, int, int, int, int]


class Grounds:
    """Frames of real clips, (T, 192, 192, 3) uint8 each."""

    def __init__(self, clips: Sequence[np.ndarray]) -> None:
        self.clips = clips

    @classmethod
    def of(cls, videos: Sequence[Path]) -> Grounds:
        """Reads the clips. Raises OptionError for none, VideoError for one that cannot be read."""
        from framefusion.inference.video import load_clip

        if not videos:
            raise OptionError("there is no clip to show things over", hint="name a folder with videos")
        return cls([_squeezed(load_clip(path, frames=GROUND_FRAMES).frames) for path in videos])

    def draw(self, draw: np.random.Generator, frames: int, held_out: bool) -> tuple[int, int, int, int, int]:
        """Clip, first frame, side and corner of a part."""
        clip = int(draw.integers(len(self.clips)))
        count = len(self.clips[clip])
        border = round(TRAINED_ON * count)
        low, high = (border, count) if held_out else (0, border)
        side = int(draw.integers(SIDE, GROUND, endpoint=True))
        row, column = draw.integers(0, GROUND - side, 2, endpoint=True)
        return clip, int(draw.integers(low, max(low + 1, high - frames))), side, int(row), int(column)

    def render(self, ground: tuple[int, int, int, int, int], frame: int) -> Image.Image:
        clip, first, side, row, column = ground
        shown = self.clips[clip]
        picture = Image.fromarray(shown[min(first + frame, len(shown) - 1)])
        return picture.crop((column, row, column + side, row + side)).resize((SIDE, SIDE), Image.Resampling.BILINEAR)


def _squeezed(frames: np.ndarray) -> np.ndarray:
    return np.stack([np.asarray(Image.fromarray(frame).resize((GROUND, GROUND))) for frame in frames])


def draw_scene(
    seed: int, album: Album, grounds: Grounds, frames: int, held_out: bool, plot: str | None = None, named: bool = False
) -> Scene:
    """The scene of `seed`. held_out: with stamps and frames that training does not show. plot: which, None for any.

    named: with a thing whose name is asked for, which training knows.
    """
    draw = np.random.default_rng(seed)
    plot = plot or str(draw.choice(PLOTS if frames > 1 else STILL_PLOTS))
    stamps = _stamps(draw, album, plot, held_out, named)
    sizes = draw.integers(*SIZES.get(plot, USUAL), len(stamps), endpoint=True)
    things = _things(draw, plot, frames, [(stamp, int(size)) for stamp, size in zip(stamps, sizes, strict=True)])
    return Scene(plot, frames, tuple(things), grounds.draw(draw, frames, held_out))


def _stamps(draw: np.random.Generator, album: Album, plot: str, held_out: bool, named: bool) -> list[int]:
    """Stamps of different groups. In training every second thing that is alone is one whose name is asked for."""
    if plot == "single" and (named or (not held_out and draw.random() < 0.5)):
        return [int(draw.choice(album.chosen(False, named=True)))]
    count = {"single": 1, "many": int(draw.integers(3, 4, endpoint=True))}.get(plot, 2)
    able = [group for group in album.groups if album.chosen(held_out, group)]
    groups = draw.choice(able, min(count, len(able)), replace=False)
    return [int(draw.choice(album.chosen(held_out, str(group)))) for group in groups]


def _things(draw: np.random.Generator, plot: str, frames: int, stamps: list[tuple[int, int]]) -> list[Thing]:
    last = frames - 1
    if plot == "mover" or (plot == "single" and frames > 1 and draw.random() < 0.4):
        return _with_mover(draw, last, stamps)
    cells = _cells(draw, len(stamps))
    spans = [(0, last)] * len(stamps)
    if plot == "flash":
        at = int(draw.integers(1, last))
        spans = [(0, last), (at, at)]
    elif plot == "order":
        spans = [
            (int(draw.integers(0, frames // 4, endpoint=True)), last),
            (int(draw.integers(frames // 2, last)), last),
        ]
    return [
        Thing(stamp, size, where, where, *span)
        for (stamp, size), cell, span in zip(stamps, cells, spans, strict=True)
        for where in [_in_cell(draw, cell)]
    ]


def _with_mover(draw: np.random.Generator, last: int, stamps: list[tuple[int, int]]) -> list[Thing]:
    """The first thing moves along an edge, another one rests at the opposite edge."""
    direction = str(draw.choice(list(DIRECTIONS)))
    down, right = DIRECTIONS[direction]
    lane, rest = draw.permutation([0, 2])
    ends = np.array([CELL / 2, SIDE - CELL / 2])[:: 1 if down + right > 0 else -1]
    across = _in_cell(draw, (int(lane), int(lane)))[0]
    start, end = [(across, float(along)) if right else (float(along), across) for along in ends]
    (stamp, size), *others = stamps
    found = [Thing(stamp, size, start, end, 0, last, direction)]
    for other, other_size in others:
        place = int(draw.integers(3))
        where = _in_cell(draw, (int(rest), place) if right else (place, int(rest)))
        found.append(Thing(other, other_size, where, where, 0, last))
    return found


def _cells(draw: np.random.Generator, count: int) -> list[tuple[int, int]]:
    """Cells of the 3 x 3 that do not touch one another along an edge."""
    if count == 1:
        return [(int(draw.integers(3)), int(draw.integers(3)))]
    if count == 2:
        pairs = [(a, b) for a in range(9) for b in range(9) if max(abs(a // 3 - b // 3), abs(a % 3 - b % 3)) == 2]
        return [(int(cell) // 3, int(cell) % 3) for cell in pairs[draw.integers(len(pairs))]]
    return [(int(cell) // 3, int(cell) % 3) for cell in draw.choice([0, 2, 4, 6, 8], count, replace=False)]


def _in_cell(draw: np.random.Generator, cell: tuple[int, int]) -> tuple[float, float]:
    row, column = (CELL * (place + 0.5) + draw.uniform(-6, 6) for place in cell)
    return float(row), float(column)


def render(scene: Scene, album: Album, grounds: Grounds) -> np.ndarray:
    """(T, 112, 112, 3) uint8."""
    return np.stack([_frame(scene, number, album, grounds) for number in range(scene.frames)])


def _frame(scene: Scene, number: int, album: Album, grounds: Grounds) -> np.ndarray:
    picture = grounds.render(scene.ground, number)
    done = number / max(1, scene.frames - 1)
    for thing in scene.things:
        if thing.first <= number <= thing.last:
            stamp = Image.fromarray(album.pictures[thing.stamp])
            scale = thing.size / max(stamp.size)
            stamp = stamp.resize((max(1, round(stamp.width * scale)), max(1, round(stamp.height * scale))))
            row, column = (a + done * (b - a) for a, b in zip(thing.start, thing.end, strict=True))
            picture.paste(stamp, (round(column - stamp.width / 2), round(row - stamp.height / 2)), stamp)
    return np.asarray(picture)
