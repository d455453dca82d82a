"""Clips of more frames show the same scenes in the same time."""

from __future__ import annotations

import numpy as np
import pytest

from framefusion.core.errors import OptionError
from framefusion.evaluation import synthetic_questions as yardstick
from framefusion.evaluation.synthetic_questions import FilmedFaster, draw_scene, render


def test_questions_and_seconds_are_the_same():
    plain, faster = (list(ground.samples(4, 7)) for ground in (yardstick, FilmedFaster(96)))
    for one, other in zip(plain, faster, strict=True):
        assert (one.seed, one.kind, one.question, one.answer) == (other.seed, other.kind, other.question, other.answer)
        assert len(other.frames) == 96 and other.fps == 24.0
        assert one.clip().duration == other.clip().duration == 4.0


def test_every_third_frame_is_that_of_the_scene_but_for_noise():
    sample = next(FilmedFaster(96).samples(1, 3, ("needle",)))
    plain = next(yardstick.samples(1, 3, ("needle",)))
    apart = np.abs(sample.frames[::3].astype(int) - plain.frames.astype(int)).mean((1, 2, 3))
    assert apart.max() < 12 < np.abs(plain.frames[1:].astype(int) - plain.frames[:-1]).mean((1, 2, 3)).max()


def test_the_flash_is_on_one_frame():
    scene = next(scene for scene in map(draw_scene, range(99)) if scene.flash is not None)
    clip = render(scene, [number / 3 for number in range(96)]).astype(int)
    change = np.abs(np.diff(clip, axis=0)).mean((1, 2, 3))
    at = 3 * scene.flash.frame
    assert set(np.argsort(change)[-2:].tolist()) == {at - 1, at}


def test_the_usual_number_is_the_usual_yardstick():
    ground = FilmedFaster(32)
    assert ground.setup == {} and FilmedFaster(64).setup == {"frames": 64}
    assert np.array_equal(next(ground.samples(1, 5)).frames, next(yardstick.samples(1, 5)).frames)
    assert ground.KINDS == yardstick.KINDS and ground.chance("needle") == yardstick.chance("needle")


@pytest.mark.parametrize("frames", [0, -32, 16, 48, 33, 800, 2.5, "96", None, True])
def test_other_numbers_are_refused(frames):
    with pytest.raises(OptionError):
        FilmedFaster(frames)
