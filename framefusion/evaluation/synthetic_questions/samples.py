"""Clips with one question each, from seeds that training never saw."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count as counting
from typing import Annotated

import numpy as np

from framefusion.core.errors import OptionError
from framefusion.core.options import Interval, OneOf, Seed, checked
from framefusion.evaluation.synthetic_questions.questions import KINDS, chance, pick
from framefusion.evaluation.synthetic_questions.render import render
from framefusion.evaluation.synthetic_questions.scene import FPS, FRAMES, draw_scene
from framefusion.inference.video import Clip

# Training draws its scenes from seeds below the first of these.
UNSEEN = 2**40
STRIDE = 2**24
# Scenes between samples that are drawn by their number: a kind is found in fewer.
APART = 64
LONGEST = 768
"""Most frames of a clip: what the processors of video models take at most."""


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


def samples(count: int, seed: int = 0, kinds: Sequence[str] = KINDS, frames: int = FRAMES) -> Iterator[Sample]:
    """`count` samples, the kinds in turn; the same for the same `seed`, and none that training saw.

    frames: of each clip, a multiple of 32. More show the same scenes in the same time, filmed faster.

    Raises OptionError for an unknown kind, a negative `count` or `seed`, or a number of frames that does not fit.
    """
    times = _times(frames)
    kinds = checked("kinds", tuple[Annotated[str, OneOf(*KINDS)], ...], kinds)
    count, seed = checked("count", Annotated[int, Interval("[0, inf)")], count), checked("seed", Seed, seed)
    seeds = counting(UNSEEN + seed * STRIDE)
    for number in range(count):
        yield _sample(kinds[number % len(kinds)], seeds, times)


def sample_at(number: int, seed: int = 0) -> Sample:
    """Sample `number` of the endless course of `seed`, the kinds in turn, without drawing those before it."""
    first = UNSEEN + seed * STRIDE + number * APART
    return _sample(KINDS[number % len(KINDS)], counting(first), 1)


def _times(frames: int) -> int:
    """How many frames there are for each of a scene's."""
    checked("frames", Annotated[int, Interval(f"[{FRAMES}, {LONGEST}]")], frames)
    if frames % FRAMES:
        why = f"a scene has {FRAMES} moments, and the one of the flash has to be seen"
        raise OptionError(f"frames must be a multiple of {FRAMES}, got {frames}", why, f"ask for {3 * FRAMES}")
    return frames // FRAMES


def _sample(kind: str, seeds: Iterator[int], times: int) -> Sample:
    """The first of `seeds` whose scene has a question of this kind."""
    for seed in seeds:
        scene = draw_scene(seed)
        question = pick(scene, kind, np.random.default_rng([seed, 1]))
        if question is not None:
            moments = [number / times for number in range(FRAMES * times)]
            clip = render(scene, moments)
            return Sample(seed, kind, clip, FPS * times, question.text, question.answer, question.choices)
    raise AssertionError("seeds never end")
