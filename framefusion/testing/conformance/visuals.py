"""Videos and pictures for the oracle, and small changes of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

STEP = 9
"""Grey levels of a change: fewer than the video processor of VideoLLaMA 3 takes for motion."""
REACH = 0.12


@dataclass(frozen=True)
class Visual:
    """A video or a picture of a prompt. pixels: (T, H, W, 3) uint8, T = 1 for a picture."""

    kind: str
    pixels: np.ndarray

    def changed(self, frame: int, place: tuple[float, float], step: int = STEP) -> Visual:
        """The same with a square around `place` (y, x in shares of the sides) `step` grey levels brighter."""
        pixels = self.pixels.copy()
        height, width = pixels.shape[1:3]
        rows = slice(*(round(height * (place[0] + side)) for side in (-REACH, REACH)))
        columns = slice(*(round(width * (place[1] + side)) for side in (-REACH, REACH)))
        pixels[frame, rows, columns] += step
        return Visual(self.kind, pixels)


def clip(frames: int, height: int = 112, width: int = 168, seed: int = 0, moving: bool = True) -> np.ndarray:
    """(T, H, W, 3) uint8: blocks of one colour, other ones in every frame if it is moving."""
    draw = np.random.default_rng(seed)
    cells = draw.integers(30, 226, (frames if moving else 1, -(-height // 20), -(-width // 20), 3), dtype=np.uint8)
    whole = cells.repeat(20, 1).repeat(20, 2)[:, :height, :width]
    return whole if moving else whole.repeat(frames, 0)
