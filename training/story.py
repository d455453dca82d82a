"""Where each thing of a clip is and how it looks, frame by frame: what visual tokens must know and remember."""

from __future__ import annotations

import numpy as np
import torch

from framefusion.evaluation.synthetic_questions import FRAMES, SIDE, Scene, draw_scene
from framefusion.evaluation.synthetic_questions.scene import COLOURS, SHAPES
from training.architecture import GRID
from training.labels import COLOUR_NAMES, NOTHING, near_digit, near_flash

BEFORE, LONG_BEFORE = " before", " long before"
# Radii run from 5 to 19 pixels.
RADIUS = 10
# Frames to look back, by what is added to a name. The shorter one reaches past a recent change (labels.RECENT).
BACK = {"": 0, BEFORE: 4, LONG_BEFORE: 12}
LOOKS, SEEN_AT = ("here", "place", "shape", "radius"), ("flash", "digit")
# Numbers for what the place of a token looked like before.
VIEWED = 16
# Further than any thing is from a token it can be seen at, as a share of a side.
FAR = 9.0
Story = dict[str, torch.Tensor]


def story(scene: Scene) -> dict[str, np.ndarray]:
    """Per frame and colour: `here`, `place` (row, column as shares of a side), `shape`, `radius`. Per visual token: the
    colour of the `flash`, and the `digit`, that can be seen there, else NOTHING."""
    grid = (FRAMES, len(COLOURS))
    told = {
        "here": np.zeros(grid, bool),
        "place": np.zeros((*grid, 2), np.float32),
        "shape": np.zeros(grid, np.int8),
        "radius": np.zeros(grid, np.float32),
    }
    for frame in range(FRAMES):
        for thing in scene.shown(frame):
            at = frame, COLOUR_NAMES.index(thing.colour)
            told["here"][at] = True
            told["place"][at] = np.array(thing.at(frame)) / SIDE
            told["shape"][at] = SHAPES.index(thing.shape)
            told["radius"][at] = thing.radius / RADIUS - 1
    told["flash"], told["digit"] = np.full((2, FRAMES, GRID, GRID), NOTHING, np.int8)
    for frame in range(FRAMES):
        if scene.flash is not None:
            told["flash"][frame, near_flash(scene, frame)] = COLOUR_NAMES.index(scene.flash.colour)
        if scene.digit is not None:
            told["digit"][frame, near_digit(scene, frame)] = scene.digit.value
    return told | {name: told[name].reshape(-1) for name in SEEN_AT}


def stories(clips: int) -> Story:
    """Those of the seeds 0 to `clips`, (clips, T, K, ...) and (clips, N)."""
    rows = [story(draw_scene(seed)) for seed in range(clips)]
    return {name: torch.from_numpy(np.stack([row[name] for row in rows])) for name in (*LOOKS, *SEEN_AT)}


def retell(told: Story, clips: torch.Tensor, kept: torch.Tensor, touched: torch.Tensor) -> Story:
    """What is known of the thing nearest to the middle of each token.

    clips: (B,); kept: (B, n) places of visual tokens; touched: (B, n, K), which things can be seen there. Returns
    (B, n, ...) each: `flash`, `digit`, `colour`, `middle` (whether the thing's own is in this token), and now and under
    the names of BACK before `left` (whether something is left of that frame), `here`, `place`, `shape`, `radius`.
    `here` is false where no thing is, or nothing is left.
    """
    frame = kept // (GRID * GRID)
    cell = torch.stack([kept // GRID % GRID, kept % GRID], -1)
    far = (told["place"][clips[:, None], frame] - (cell[:, :, None] + 0.5) / GRID).abs().amax(-1)
    colour = far.masked_fill(~touched, FAR).argmin(-1)
    within = (told["place"][clips[:, None], frame, colour] * GRID).long() == cell
    values: Story = {name: told[name][clips[:, None], kept] for name in SEEN_AT}
    values |= {"colour": colour, "middle": within.all(-1) & touched.any(-1)}
    for suffix, back in BACK.items():
        then = earlier(kept, back)
        values["left" + suffix] = then >= 0
        for name in LOOKS:
            values[name + suffix] = told[name][clips[:, None], then.clamp(min=0) // (GRID * GRID), colour]
        values["here" + suffix] &= values["left" + suffix] & touched.any(-1)
    return values


def earlier(kept: torch.Tensor, back: int) -> torch.Tensor:
    """(B, n): the place of each token `back` frames before; below 0 where nothing is left of that frame."""
    frame = kept // (GRID * GRID)
    left = (frame[:, :, None] - back == frame[:, None]).any(-1)
    return torch.where(left, kept - back * GRID * GRID, NOTHING)
