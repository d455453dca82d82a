"""Clips and questions of the embedded model's world, from the part that it was not trained on."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING

from framefusion.evaluation.synthetic_questions import Sample, samples

if TYPE_CHECKING:
    from framefusion.inference.video import Clip

_SEED = 2600
_KINDS = ("needle", "direction", "order3", "count", "change", "digit")


@cache
def examples() -> tuple[Sample, ...]:
    """One question of each of some kinds, every one about a clip of its own."""
    return tuple(samples(len(_KINDS), _SEED, _KINDS))


def clip_of(number: int) -> Clip:
    """Every frame of the clip of an example."""
    return replace(examples()[number].clip(), source=f"example {number + 1}")
