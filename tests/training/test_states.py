"""What visual tokens are taught: told of the right thing, at the right time, and lossless where it is read rightly."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from framefusion.evaluation.synthetic_questions import FRAMES, SIDE, draw_scene, render
from framefusion.evaluation.synthetic_questions.scene import COLOURS, SHAPES, Change, Digit, Flash, Scene, Thing
from training.architecture import GRID
from training.labels import COLOUR_NAMES, label
from training.library import at
from training.packing import VISUAL
from training.states import AFTER, STEPS, states_loss
from training.story import BACK, BEFORE, LONG_BEFORE, VIEWED, retell, stories, story

ALL = torch.arange(VISUAL)[None]
RED, BLUE = COLOUR_NAMES.index("red"), COLOUR_NAMES.index("blue")


@pytest.fixture(scope="module")
def scene() -> Scene:
    """A red ring on its way to the right that turns into a cross at frame 16, and a blue square from frame 20 on."""
    red = Thing("red", "ring", 10, (40.0, 14.0), (0.0, 2.0))
    blue = Thing("blue", "square", 9, (96.0, 40.0), appears=20)
    turned = Change("shape", 16, 0, replace(red, shape="cross"))
    events = {"digit": Digit(7, (90, 90), 1, 3), "flash": Flash("green", 10, (56, 56))}
    return Scene(0, (red, blue), turned, pillar=None, look=1, **events)


@pytest.fixture(scope="module")
def told(scene: Scene) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(value[None]) for name, value in story(scene).items()}


@pytest.fixture(scope="module")
def known(scene: Scene) -> dict[str, torch.Tensor]:
    """The labels of every token of the clip, (1, N, ...)."""
    labels = label(scene, list(range(FRAMES)), render(scene))
    names = ("touched", "way", "speed", "age", "change")
    values = {name: torch.from_numpy(getattr(labels, name)).flatten(0, 2)[None] for name in names}
    return values | {"touched": values["touched"].bool()}


def token(scene: Scene, thing: int, frame: int) -> int:
    """The visual token in the middle of which a thing is."""
    row, column = scene.things[thing].at(frame)
    return frame * GRID * GRID + row * GRID // SIDE * GRID + column * GRID // SIDE


def test_a_token_speaks_of_its_thing_now_and_before(scene, told, known):
    said = retell(told, torch.tensor([0]), ALL, known["touched"])
    for frame in (6, 18, 30):
        here = token(scene, 0, frame)
        assert said["colour"][0, here] == RED and said["middle"][0, here]
        for suffix, back in BACK.items():
            assert said["here" + suffix][0, here] == (frame >= back)
            if frame >= back:
                shape = "cross" if frame - back >= 16 else "ring"
                assert SHAPES[int(said["shape" + suffix][0, here])] == shape
                place = np.array(scene.things[0].at(frame - back)) / SIDE
                assert said["place" + suffix][0, here].numpy() == pytest.approx(place)
    late = token(scene, 1, 23)
    assert said["colour"][0, late] == BLUE
    assert said["here"][0, late] and not said["here" + BEFORE][0, late], "before it appeared there was nothing"
    assert said["middle"][0].sum() == FRAMES + 12 - 1, "one token a frame, but for the one that the flash hides"


def test_what_is_lost_is_not_asked_for(scene, told, known):
    frames = torch.tensor([frame for frame in range(FRAMES) if frame != 14])
    kept = (frames[:, None] * GRID * GRID + torch.arange(GRID * GRID)).flatten()[None]
    said = retell(told, torch.tensor([0]), kept, known["touched"][:, kept[0]])
    for frame, asked in ((18, False), (19, True)):
        here = (kept[0] == token(scene, 0, frame)).nonzero().item()
        assert said["here" + BEFORE][0, here] == asked


def perfect(chosen: dict[str, torch.Tensor], kept: torch.Tensor) -> dict[str, torch.Tensor]:
    """What a model that knows everything would read."""
    sizes = {name: size for part in AFTER.values() for name, size in part.items()}

    def sure(classes: torch.Tensor, name: str) -> torch.Tensor:
        return torch.nn.functional.one_hot(classes.long().clamp(min=0), sizes[name]) * 30.0

    def of_main(name: str) -> torch.Tensor:
        return chosen[name].gather(-1, chosen["colour"][..., None]).squeeze(-1)

    way, speed = of_main("way"), of_main("speed").float()
    looks = {f"{look}{suffix}": chosen[look + suffix] for look in ("place", "radius") for suffix in ("", BEFORE)}
    return {
        "row": sure(kept // GRID % GRID, "row"),
        "column": sure(kept % GRID, "column"),
        "frame": (kept.float() / VISUAL)[..., None],
        "colour": sure(chosen["colour"], "colour"),
        "shape": sure(chosen["shape"], "shape"),
        "middle": sure(chosen["middle"], "middle"),
        "flash": sure(chosen["flash"], "flash"),
        "digit": sure(chosen["digit"], "digit"),
        "shape" + BEFORE: sure(chosen["shape" + BEFORE], "shape" + BEFORE),
        "place" + LONG_BEFORE: chosen["place" + LONG_BEFORE],
        "view" + BEFORE: chosen["view" + BEFORE],
        **{name: value.view(*kept.shape, -1) for name, value in looks.items()},
        "way": sure(way, "way"),
        "speed": speed[..., None],
        "motion": STEPS[way.long().clamp(min=0)] * speed[..., None],
        "age": of_main("age").float()[..., None],
        "change": sure(chosen["change"], "change"),
    }


def test_knowing_everything_costs_nothing_and_each_error_something(told, known):
    chosen = known | retell(told, torch.tensor([0]), ALL, known["touched"])
    chosen["view" + BEFORE] = torch.randn(1, VISUAL, VIEWED)
    read = perfect(chosen, ALL)
    assert read.keys() == {name for part in AFTER.values() for name in part}
    assert sum(loss.item() for loss in states_loss(read, chosen, ALL).values()) < 1e-3
    for name, value in read.items():
        wrong = states_loss(read | {name: value.roll(1, -1) + (value.shape[-1] == 1)}, chosen, ALL)
        assert wrong[name] > 0.02, name


def test_few_frames_are_enough(told, known):
    """Of the first frames there is nothing before; the loss is then nothing, not nothing that is known."""
    first = ALL[:, : 3 * GRID * GRID]
    few = at(known, torch.zeros(1, 1, dtype=torch.long), first)
    chosen = few | retell(told, torch.tensor([0]), first, few["touched"])
    chosen["view" + BEFORE] = torch.zeros(*first.shape, VIEWED)
    losses = states_loss(perfect(chosen, first), chosen, first)
    assert losses["place" + BEFORE] == losses["shape" + BEFORE] == losses["place" + LONG_BEFORE] == 0


def test_stories_are_those_of_the_seeds():
    told = stories(3)
    for seed in range(3):
        scene = draw_scene(seed)
        there = {COLOUR_NAMES[number] for number in told["here"][seed, -1].nonzero().flatten().tolist()}
        assert there == {thing.colour for thing in scene.shown(FRAMES - 1)}
    assert told["place"].shape == (3, FRAMES, len(COLOURS), 2)
