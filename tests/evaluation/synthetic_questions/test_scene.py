"""Scenes: the same for the same seed, readable, and with an answer that the pixels bear out."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from framefusion.evaluation.synthetic_questions import FRAMES, SIDE, draw_scene, render
from framefusion.evaluation.synthetic_questions.scene import APART, COLOURS, EDGE, Digit, Flash, Scene, Thing

SCENES = [draw_scene(seed) for seed in range(200)]


def still(*things: Thing, **events: object) -> Scene:
    options: dict[str, object] = {"change": None, "digit": None, "flash": None, "pillar": None, "look": 3}
    return Scene(0, things, **(options | events))  # type: ignore[arg-type]


def share_of(picture: np.ndarray, colour: str) -> float:
    """Share of the pixels near `colour`."""
    return float((np.abs(picture.astype(int) - COLOURS[colour]).max(-1) < 60).mean())


def test_a_seed_gives_one_scene_and_one_clip() -> None:
    assert draw_scene(5) == draw_scene(5)
    assert draw_scene(5) != draw_scene(6)
    assert np.array_equal(render(draw_scene(5)), render(draw_scene(5)))


def test_things_have_colours_of_their_own_and_stay_in_the_picture() -> None:
    for scene in SCENES:
        colours = [thing.colour for thing in scene.things]
        assert len(set(colours)) == len(colours) <= 6
        for thing in scene.things:
            for frame in range(FRAMES):
                assert all(0 < place < SIDE for place in thing.at(frame))


def test_every_number_of_things_and_every_event_occurs() -> None:
    assert {len(scene.things) for scene in SCENES} >= {2, 3, 4, 5, 6}
    assert {scene.change.what for scene in SCENES if scene.change} == {"colour", "shape", "size", "background"}
    assert {scene.digit.value for scene in SCENES if scene.digit} == set(range(10))
    for part in ("pillar", "flash", "digit", "change"):
        share = sum(getattr(scene, part) is not None for scene in SCENES) / len(SCENES)
        assert 0.2 < share < 0.8


def test_late_things_are_apart_in_time() -> None:
    for scene in SCENES:
        times = sorted(thing.appears for thing in scene.things if thing.appears)
        assert all(EDGE <= time < FRAMES - EDGE for time in times)
        assert all(after - before >= APART for before, after in pairwise(times))


def test_a_thing_is_painted_where_it_is_from_when_it_appears() -> None:
    thing = Thing("red", "square", 10, (40.0, 30.0), (0.0, 1.0), appears=8)
    clip = render(still(thing))
    assert share_of(clip[7], "red") == 0
    row, column = thing.at(20)
    assert share_of(clip[20][row - 5 : row + 5, column - 5 : column + 5], "red") > 0.9


def test_the_needle_fills_one_frame_only() -> None:
    clip = render(still(flash=Flash("green", 11, (56, 56))))
    shares = [share_of(picture, "green") for picture in clip]
    assert shares[11] > 0.2 and sum(share > 0.05 for share in shares) == 1


def test_a_digit_is_white_on_black_while_it_is_shown() -> None:
    clip = render(still(digit=Digit(8, (60, 60), 5, 9)))
    plates = [picture[47:74, 50:71].min() < 40 and picture[47:74, 50:71].max() > 200 for picture in clip]
    assert plates == [5 <= frame <= 9 for frame in range(FRAMES)]


def test_pixels_change_when_the_scene_does() -> None:
    scene = next(
        scene for scene in SCENES if scene.change and scene.change.what == "background" and scene.flash is None
    )
    assert scene.change is not None
    clip = render(scene).astype(int)
    steps = np.abs(np.diff(clip, axis=0)).mean((1, 2, 3))
    assert int(steps.argmax()) + 1 == scene.change.at


@pytest.mark.parametrize("frames", [[0], [3, 17, 31]])
def test_some_frames_show_what_the_whole_clip_shows(frames: list[int]) -> None:
    scene = draw_scene(7)
    some, whole = render(scene, frames).astype(int), render(scene).astype(int)[frames]
    assert some.shape == whole.shape
    assert np.abs(some - whole).mean() < 12  # only the noise differs
