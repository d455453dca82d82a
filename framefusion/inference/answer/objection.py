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

Media = tuple["Clip", ...]
"""What a question is about: clips and still pictures, in the order they are shown."""

Attempt = Callable[[Media, str], Exception | None]
"""What the processor raises over media and a question, None where it accepts them."""

HARMLESS = "what?"
SIDE = 336
COUNTS = (8, 4, 16, 2, 32, 1)
# Sides that differ by more than this are what is odd about a frame; less, and it is its size.
LONG = 3


def objection(name: str, media: Media, question: str, problem: Exception, attempt: Attempt) -> FrameFusionError:
    """The error for media and a question that the processor called `name` does not accept.

    problem: what it said. Its own sentence stays, because no table knows all processors; the hint is about what made
    the difference.
    """
    why = reason_of(problem)
    if attempt(media, HARMLESS) is None:
        hint = "ask it in other words, without special tokens"
        return PromptError(f"{name} does not accept this question", why, hint)
    square = tuple(map(_square, media))
    if attempt(square, HARMLESS) is None:
        odd = max(media, key=_oddness)
        (height, width), what = odd.frames.shape[1:3], "a picture" if odd.still else "frames"
        return PromptError(f"{name} does not accept {what} of {width} x {height} pixels", why, _about(odd))
    moving = [clip for clip in media if not clip.still]
    counts = [len(clip.frames) for clip in moving]
    if len(set(counts)) > 1 and attempt(_of_length(media, min(counts)), HARMLESS) is None:
        told = " and ".join(map(str, counts))
        hint = f"write --frames {min(counts)}, or ask about them one after the other"
        return PromptError(f"{name} does not accept clips of {told} frames in one prompt", why, hint)
    for count in COUNTS if moving else ():
        if attempt(_of_length(media, count), HARMLESS) is None:
            hint = f"write --frames {count}"
            return PromptError(f"{name} does not accept a clip of {len(moving[0].frames)} frames", why, hint)
    if moving and any(attempt(_of_length(square, count), HARMLESS) is None for count in COUNTS):
        hint = "take another video, with another number of --frames"
        return PromptError(f"{name} does not accept this clip", why, hint)
    if len(media) > 1 and any(attempt((clip,), HARMLESS) is None for clip in square):
        return PromptError(f"{name} does not accept these media together", why, "ask about them one after the other")
    return CheckpointError(
        f"{name} accepts no {'clip' if moving else 'picture'} at all",
        why,
        "the files of the checkpoint's processor are damaged or of another model; fetch the checkpoint again",
    )


def _oddness(clip: Clip) -> float:
    height, width = clip.frames.shape[1:3]
    return max(height, width) / min(height, width)


def _about(clip: Clip) -> str:
    kind = "picture" if clip.still else "video"
    if _oddness(clip) > LONG:
        cut = "" if clip.still else ": ffmpeg -i VIDEO -vf crop=WIDTH:HEIGHT cut.mp4"
        return f"cut the {kind} or pad it, so that its sides differ less{cut}"
    return f"scale the {kind}" + ("" if clip.still else ": ffmpeg -i VIDEO -vf scale=640:-2 scaled.mp4")


def _square(clip: Clip) -> Clip:
    """As many frames, of a size that every processor knows."""
    return replace(clip, frames=np.zeros((len(clip.frames), SIDE, SIDE, 3), np.uint8))


def _of_length(media: Media, count: int) -> Media:
    """With `count` frames of each clip, evenly; some of them several times where there are not as many."""
    return tuple(clip if clip.still else _resampled(clip, count) for clip in media)


def _resampled(clip: Clip, count: int) -> Clip:
    places = np.linspace(0, len(clip.frames) - 1, count).round().astype(int)
    at: dict[str, Any] = {
        name: tuple(values[place] for place in places)
        for name, values in (("timestamps", clip.timestamps), ("indices", clip.indices))
        if values
    }
    return replace(clip, frames=clip.frames[places], **at)
