"""A yardstick without rendering: noisy clips with one question each, for models that answer at random."""

from __future__ import annotations

from dataclasses import dataclass

from framefusion.inference.answer.checkpoint import Checkpoint
from framefusion.inference.video import Clip
from tests.support.tiny import build_model, moving_clip, processor

FRAMES, FPS = 6, 4.0


@dataclass(frozen=True)
class Question:
    seed: int
    kind: str
    question: str
    answer: str = "red"
    choices: tuple[str, ...] = ("red", "blue")

    def clip(self):
        frames = moving_clip(FRAMES, seed=self.seed, change=0.4)
        times = tuple(number / FPS for number in range(FRAMES))
        return Clip(frames, times, FPS, FRAMES / FPS, FRAMES, f"clip {self.seed}", tuple(range(FRAMES)))


class Ground:
    """answers: by seed, the answer that counts as right; "red" for the others."""

    KINDS = ("colour", "needle")

    def __init__(self, answers=None):
        self.answers = answers or {}

    def samples(self, count, seed=0, kinds=KINDS):
        for number in range(count):
            # Questions of two lengths, so that batches have to be sorted.
            name, kind = 100 * seed + number, kinds[number % len(kinds)]
            answer = self.answers.get(name, "red")
            yield Question(name, kind, "which?" if number % 3 else "which one?", answer, (answer, "nothing"))

    def chance(self, kind):
        return 0.5


def checkpoint(name="qwen2_5_vl"):
    return Checkpoint(name, build_model(name), processor(name))
