"""What the requests of a benchmark show."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from framefusion.inference.video import write_clip

TINY_PICTURES = {
    "llava_onevision": 5,
    "llava_next": 5,
    "llava": 16,
    "internvl": 20,
    "minicpmv4_6": 20,
    "idefics3": 20,
    "gemma3": 15,
}
"""In one request, 8 if not said, so that every tiny checkpoint reads about 1000 visual tokens."""


def noise(path: Path, frames: int = 32, side: int = 112, seed: int = 0) -> Path:
    """Write a clip in which every frame is another noise."""
    pixels = np.random.default_rng(seed).integers(0, 256, (frames, side, side, 3), dtype=np.uint8)
    write_clip(path, pixels, fps=2.0)
    return path


def scene(path: Path, frames: int = 32, side: int = 112, seed: int = 0) -> Path:
    """Write a clip of coloured squares that cross a textured ground, with the grain of a camera."""
    random = np.random.default_rng(seed)
    coarse = random.integers(60, 200, (side // 8 + 1, side // 8 + 1, 3))
    clip = np.repeat(np.kron(coarse, np.ones((8, 8, 1)))[None, :side, :side], frames, 0)
    for _ in range(4):
        colour, size = random.integers(0, 256, 3), int(random.integers(side // 8, side // 3))
        (top, left), (down, right) = random.integers(0, side - size, (2, 2))
        for number, share in enumerate(np.linspace(0.0, 1.0, frames)):
            y, x = round(top + share * (down - top)), round(left + share * (right - left))
            clip[number, y : y + size, x : x + size] = colour
    grain = random.normal(0.0, 3.0, clip.shape)
    write_clip(path, (clip + grain).clip(0, 255).astype(np.uint8), fps=2.0)
    return path


def drawn(folder: Path, count: int, width: int, height: int) -> list[Path]:
    """Write pictures of coloured rectangles."""
    files = []
    for number in range(count):
        random = np.random.default_rng(number)
        picture = np.full((height, width, 3), 255, np.uint8)
        for _ in range(200):
            top, left = random.integers(0, height), random.integers(0, width)
            down, across = random.integers(1, height // 4, 2)
            picture[top : top + down, left : left + across] = random.integers(0, 256, 3)
        files.append(folder / f"{number}.png")
        Image.fromarray(picture).save(files[-1])
    return files
