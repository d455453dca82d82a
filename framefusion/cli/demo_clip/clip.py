"""The example clip: one scene of the yardstick as a video file, four seconds long, with its questions and answers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from framefusion.evaluation.synthetic_questions import FPS, FRAMES, KINDS, Question, draw_scene, questions, render
from framefusion.evaluation.synthetic_questions.samples import UNSEEN

if TYPE_CHECKING:
    from framefusion.inference.video import Clip

EXAMPLE = Path(__file__).parent / "example.mp4"
SEED = UNSEEN + 1_000_002_719
# Each pixel of the scene becomes a square of this side, so that a person can see the clip.
ENLARGED = 2


def demo_clip() -> Clip:
    """The example clip, read from its file."""
    from framefusion.inference.video import load_clip

    return load_clip(EXAMPLE, frames=FRAMES)


def demo_questions() -> list[Question]:
    """One question of each kind."""
    scene = draw_scene(SEED)
    return [questions(scene, kind)[0] for kind in KINDS]


def write_example(path: Path = EXAMPLE) -> None:
    """Render the file anew."""
    from framefusion.inference.video import write_clip

    frames = render(draw_scene(SEED)).repeat(ENLARGED, 1).repeat(ENLARGED, 2)
    write_clip(path, np.ascontiguousarray(frames), fps=FPS)
