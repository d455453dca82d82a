"""Scenes of tiny models: what `framefusion view` draws, without files in between."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from framefusion.cli.view import look
from framefusion.core.registry import method
from framefusion.evaluation.view.scene import Scene
from framefusion.inference.answer.checkpoint import Checkpoint
from framefusion.inference.video import Clip
from tests.support.tiny import build_model, moving_clip, processor

FRAMES = 6


def clip(frames: int = FRAMES, height: int = 56, width: int = 84) -> Clip:
    pictures: np.ndarray = moving_clip(frames, height, width, change=0.4)
    times = tuple(number / 4 for number in range(frames))
    return Clip(pictures, times, 4.0, frames / 4, frames, "some <clip>.mp4", tuple(range(frames)))


@cache
def checkpoint(family: str) -> Checkpoint:
    return Checkpoint(family, build_model(family), processor(family))


@cache
def scene(family: str, name: str = "framefusion", dense: bool = False, **options: Any) -> Scene:
    """The scene of a short clip that `name` reduces; two words of an answer."""
    return look(checkpoint(family), clip(), "What moves?", method(name)(**options), 2, with_dense=dense)
