"""Samples: kinds in turn, repeatable, from seeds that training does not use."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from framefusion.core.errors import OptionError
from framefusion.evaluation.synthetic_questions import FRAMES, KINDS, SIDE, samples
from framefusion.evaluation.synthetic_questions.samples import UNSEEN


def test_kinds_take_turns_and_seeds_are_unseen() -> None:
    drawn = list(samples(2 * len(KINDS)))
    assert Counter(sample.kind for sample in drawn) == dict.fromkeys(KINDS, 2)
    assert len({sample.seed for sample in drawn}) == len(drawn)
    assert all(sample.seed >= UNSEEN for sample in drawn)
    assert all(sample.frames.shape == (FRAMES, SIDE, SIDE, 3) for sample in drawn)


def test_a_seed_repeats_and_another_differs() -> None:
    one, same, other = (list(samples(5, seed)) for seed in (3, 3, 4))
    assert [sample.question for sample in one] == [sample.question for sample in same]
    assert all(np.array_equal(a.frames, b.frames) for a, b in zip(one, same, strict=True))
    assert {sample.seed for sample in one}.isdisjoint(sample.seed for sample in other)


def test_more_samples_begin_with_the_same_ones() -> None:
    assert [sample.seed for sample in samples(4)] == [sample.seed for sample in samples(9)][:4]


def test_a_clip_counts_its_frames_in_seconds() -> None:
    clip = next(samples(1)).clip()
    assert clip.total_frames == FRAMES and clip.duration == FRAMES / clip.fps
    assert clip.metadata()["frames_indices"] == list(range(FRAMES))


def test_some_kinds_only() -> None:
    assert {sample.kind for sample in samples(4, kinds=("needle", "digit"))} == {"needle", "digit"}


@pytest.mark.parametrize("wrong", [{"count": -1}, {"count": 1, "seed": -1}, {"count": 1, "kinds": ["taste"]}])
def test_wrong_use_is_explained(wrong: dict[str, object]) -> None:
    with pytest.raises(OptionError):
        list(samples(**wrong))  # type: ignore[arg-type]
