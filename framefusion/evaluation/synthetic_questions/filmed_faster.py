"""The same yardstick with more frames in the same time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from framefusion.evaluation.synthetic_questions.questions import KINDS, chance
from framefusion.evaluation.synthetic_questions.samples import Sample, samples
from framefusion.evaluation.synthetic_questions.scene import FRAMES


@dataclass(frozen=True)
class FilmedFaster:
    """The scenes and questions of the yardstick in clips of `frames` frames.

    Args:
        frames: a multiple of 32. What lasts one frame of a scene, the flash, is still one frame of the clip.

    Raises:
        OptionError: another number.
    """

    frames: int
    KINDS: ClassVar[tuple[str, ...]] = KINDS

    def __post_init__(self) -> None:
        next(self.samples(0), None)

    @property
    def setup(self) -> Mapping[str, int]:
        """What is different about answers to these questions."""
        return {} if self.frames == FRAMES else {"frames": self.frames}

    def samples(self, count: int, seed: int = 0, kinds: Sequence[str] = KINDS) -> Iterator[Sample]:
        """`count` questions, kinds in turn, the same for the same seed."""
        return samples(count, seed, kinds, self.frames)

    def chance(self, kind: str) -> float:
        """Accuracy on `kind` without looking."""
        return chance(kind)
