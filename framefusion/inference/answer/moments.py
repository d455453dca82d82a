"""When frames were taken, as processors are told: in whole steps of a grid, and as one mean spacing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from framefusion.inference.video import Clip

SPACINGS = ("second_per_grid_ts", "video_second_per_grid")
"""Seconds from one step of the grid to the next, per video, where a model is told them."""

GRIDS = {"nemotron_h_omni": 1000.0}
"""Positions per second for processors that take a position for a whole number of milliseconds, by model type."""


def clips_to_try(media: tuple[Clip, ...], processor: Any) -> Iterator[tuple[Clip, ...]]:
    """The media; and where clips have fewer frames than make one step of the grid, with their last ones repeated."""
    yield media
    least = _frames_per_step(processor)
    if any(len(clip.frames) < least for clip in media):
        yield tuple(_filled(clip, least - len(clip.frames)) for clip in media)


def _filled(clip: Clip, missing: int) -> Clip:
    if missing <= 0:
        return clip
    return replace(
        clip,
        frames=np.concatenate([clip.frames, *[clip.frames[-1:]] * missing]),
        timestamps=(*clip.timestamps, *clip.timestamps[-1:] * missing),
        indices=(*clip.indices, *clip.indices[-1:] * missing),
    )


def video_options(clips: Sequence[Clip], model_type: str) -> dict[str, Any]:
    """What a processor is called with beside the frames of the videos."""
    from transformers.video_utils import VideoMetadata

    metadata = [VideoMetadata(**clip.metadata(GRIDS.get(model_type))) for clip in clips]
    # Some processors write times from what their video processor hands back, and do not ask it to.
    return {"video_metadata": metadata, "do_sample_frames": False, "return_metadata": True}


def correct_spacing(inputs: Any, clips: Sequence[Clip], processor: Any) -> None:
    """Put the clips' own mean spacings in place of what `inputs` say.

    Processors divide the length of a clip by the number of its frames, though the first and the last frame of a
    sample lie one spacing less apart, or take a rate for granted.
    """
    for name in SPACINGS:
        if name not in inputs:
            continue
        said = inputs[name] * 1.0
        for number, clip in enumerate(clips):
            times = clip.timestamps
            if len(times) > 1 and times[-1] > times[0]:
                # Rounded, because models cut off decimals: 0.9999999 seconds would be none.
                said[number] = round(_frames_per_step(processor) * (times[-1] - times[0]) / (len(times) - 1), 6)
        inputs[name] = said


def _frames_per_step(processor: Any) -> int:
    stated = getattr(getattr(processor, "video_processor", None), "temporal_patch_size", None)
    # A damaged checkpoint may state anything; its processor says so when it is called.
    return stated if isinstance(stated, int) and stated > 0 else 1
