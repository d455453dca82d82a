"""Clips with one question each, from seeds that training never saw."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count as counting
from typing import Annotated

import numpy as np

from framefusion.core.options import Interval, OneOf, Seed, checked
from framefusion.evaluation.synthetic_questions.questions import KINDS, chance, pick
from framefusion.evaluation.synthetic_questions.render import render
from framefusion.evaluation.synthetic_questions.scene import FPS, draw_scene
from framefusion.inference.video import Clip

# Training draws its scenes from seeds below the first of these.
UNSEEN = 2**40
STRIDE = 2**24


@dataclass(frozen=True)
class Sample:
    """One clip, (T, S, S, 3) uint8, with one question; `answer` is one of `choices`."""

    seed: int
    kind: str
    frames: np.ndarray
    fps: float
    question: str
    answer: str
    choices: tuple[str, ...]

    @property
    def chance(self) -> float:
        return chance(self.kind)

    def clip(self) -> Clip:
        """The frames as if read from a file."""
        count = len(self.frames)
        return Clip(
            frames=self.frames,
            timestamps=tuple(number / self.fps for number in range(count)),
            fps=self.fps,
            duration=count / self.fps,
            total_frames=count,
            source=f"yardstick {self.kind} {self.seed}",
            indices=tuple(range(count)),
        )


def samples(count: int, seed: int = 0, kinds: Sequence[str] = KINDS) -> Iterator[Sample]:
    """`count` samples, the kinds in turn; the same for the same `seed`, and none that training saw.

    Raises OptionError for an unknown kind, a negative `count` or `seed`.
    """
    kinds = checked("kinds", tuple[Annotated[str, OneOf(*KINDS)], ...], kinds)
    count, seed = checked("count", Annotated[int, Interval("[0, inf)")], count), checked("seed", Seed, seed)
    seeds = counting(UNSEEN + seed * STRIDE)
    for number in range(count):
        yield _sample(kinds[number % len(kinds)], seeds)


def _sample(kind: str, seeds: Iterator[int]) -> Sample:
    """The first of `seeds` whose scene has a question of this kind."""
    for seed in seeds:
        scene = draw_scene(seed)
        question = pick(scene, kind, np.random.default_rng([seed, 1]))
        if question is not None:
            return Sample(seed, kind, render(scene), FPS, question.text, question.answer, question.choices)
    raise AssertionError("seeds never end")
