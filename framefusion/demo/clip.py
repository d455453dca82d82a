"""The example clip: shapes moving over a textured, slowly panning background, by way of a real video file."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from framefusion.video import load_clip, write_clip

if TYPE_CHECKING:
    from framefusion.video import Clip

FRAMES, SIDE, FPS = 32, 224, 8.0
SHAPES = (
    # colour, radius, start (row, column), velocity in pixels per frame
    ((220, 60, 50), 22, (60.0, 30.0), (0.5, 4.5)),
    ((60, 110, 230), 16, (160.0, 190.0), (-2.5, -3.0)),
    ((240, 200, 60), 12, (110.0, 110.0), (0.0, 0.0)),
)


def render(frames: int = FRAMES, side: int = SIDE, seed: int = 0) -> np.ndarray:
    """(T, side, side, 3) uint8 RGB, the same for the same seed."""
    draw = np.random.default_rng(seed)
    coarse = draw.integers(40, 120, (side // 16 + 3, side // 16 + 3, 3))
    ground = np.kron(coarse, np.ones((16, 16, 1))) + draw.integers(0, 12, (side + 48, side + 48, 3))
    rows, columns = np.mgrid[:side, :side]
    clip = np.empty((frames, side, side, 3), np.uint8)
    for time in range(frames):
        shift = time // 4
        picture = ground[8 : 8 + side, shift : shift + side].copy()
        for colour, radius, start, velocity in SHAPES:
            row, column = (start[axis] + velocity[axis] * time for axis in (0, 1))
            picture[(rows - row) ** 2 + (columns - column) ** 2 < radius**2] = colour
        clip[time] = picture.clip(0, 255)
    return clip


def demo_clip() -> Clip:
    """The example clip after a trip through a video file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "shapes.mp4"
        write_clip(path, render(), fps=FPS)
        return load_clip(path, frames=FRAMES)
