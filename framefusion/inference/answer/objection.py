"""What of a prompt a processor objects to, found by trying it with something harmless in its place."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from framefusion.core.errors import CheckpointError, FrameFusionError, PromptError
from framefusion.inference.answer.foreign import reason_of

if TYPE_CHECKING:
    from framefusion.inference.video import Clip

Attempt = Callable[["Clip", str], Exception | None]
"""What the processor raises over a clip and a question, None where it accepts them."""

HARMLESS = "what?"
SIDE = 336
COUNTS = (8, 4, 16, 2, 32, 1)
# Sides that differ by more than this are what is odd about a frame; less, and it is its size.
LONG = 3


def objection(name: str, clip: Clip, question: str, problem: Exception, attempt: Attempt) -> FrameFusionError:
    """The error for a clip and a question that the processor called `name` does not accept.

    problem: what it said. Its own sentence stays, because no table knows all processors; the hint is about what made
    the difference.
    """
    why = reason_of(problem)
    if attempt(clip, HARMLESS) is None:
        hint = "ask it in other words, without special tokens"
        return PromptError(f"{name} does not accept this question", why, hint)
    square = _square(clip)
    if attempt(square, HARMLESS) is None:
        height, width = clip.frames.shape[1:3]
        return PromptError(f"{name} does not accept frames of {width} x {height} pixels", why, _about(width, height))
    for count in COUNTS:
        if attempt(_of_length(clip, count), HARMLESS) is None:
            hint = f"write --frames {count}"
            return PromptError(f"{name} does not accept a clip of {len(clip.frames)} frames", why, hint)
    if any(attempt(_of_length(square, count), HARMLESS) is None for count in COUNTS):
        hint = "take another video, with another number of --frames"
        return PromptError(f"{name} does not accept this clip", why, hint)
    return CheckpointError(
        f"{name} accepts no clip at all",
        why,
        "the files of the checkpoint's processor are damaged or of another model; fetch the checkpoint again",
    )


def _about(width: int, height: int) -> str:
    if max(width, height) > LONG * min(width, height):
        return "cut the video or pad it, so that its sides differ less: ffmpeg -i VIDEO -vf crop=WIDTH:HEIGHT cut.mp4"
    return "scale the video: ffmpeg -i VIDEO -vf scale=640:-2 scaled.mp4"


def _square(clip: Clip) -> Clip:
    """As many frames, of a size that every processor knows."""
    return replace(clip, frames=np.zeros((len(clip.frames), SIDE, SIDE, 3), np.uint8))


def _of_length(clip: Clip, count: int) -> Clip:
    """`count` of its frames, evenly; some of them several times where there are not as many."""
    places = np.linspace(0, len(clip.frames) - 1, count).round().astype(int)
    at: dict[str, Any] = {
        name: tuple(values[place] for place in places)
        for name, values in (("timestamps", clip.timestamps), ("indices", clip.indices))
        if values
    }
    return replace(clip, frames=clip.frames[places], **at)
