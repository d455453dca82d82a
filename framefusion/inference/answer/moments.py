"""When frames were taken, as processors are told: in whole steps of a grid, and as one mean spacing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from framefusion.inference.video import Clip

SPACINGS = ("second_per_grid_ts", "video_second_per_grid")
"""Seconds from one step of the grid to the next, per video, where a model is told them."""

GRIDS = {"nemotron_h_omni": 1000.0}
"""Positions per second for processors that take a position for a whole number of milliseconds, by model type."""


def clips_to_try(clip: Clip, processor: Any) -> Iterator[Clip]:
    """The clip; and where it has fewer frames than make one step of the processor's grid, the last one repeated."""
    yield clip
    missing = _frames_per_step(processor) - len(clip.frames)
    if missing > 0:
        yield replace(
            clip,
            frames=np.concatenate([clip.frames, *[clip.frames[-1:]] * missing]),
            timestamps=(*clip.timestamps, *clip.timestamps[-1:] * missing),
            indices=(*clip.indices, *clip.indices[-1:] * missing),
        )


def video_options(clip: Clip, model_type: str) -> dict[str, Any]:
    """What a processor is called with beside the frames."""
    from transformers.video_utils import VideoMetadata

    metadata = VideoMetadata(**clip.metadata(GRIDS.get(model_type)))
    # Some processors write times from what their video processor hands back, and do not ask it to.
    return {"video_metadata": [metadata], "do_sample_frames": False, "return_metadata": True}


def correct_spacing(inputs: Any, clip: Clip, processor: Any) -> None:
    """Put the clip's own mean spacing in place of what `inputs` say.

    Processors divide the length of the clip by the number of its frames, though the first and the last frame of a
    sample lie one spacing less apart, or take a rate for granted.
    """
    times = clip.timestamps
    if len(times) < 2 or times[-1] <= times[0]:
        return
    # Rounded, because models cut off decimals: 0.9999999 seconds would be none.
    spacing = round(_frames_per_step(processor) * (times[-1] - times[0]) / (len(times) - 1), 6)
    for name in SPACINGS:
        if name in inputs:
            inputs[name] = inputs[name] * 0 + spacing


def _frames_per_step(processor: Any) -> int:
    stated = getattr(getattr(processor, "video_processor", None), "temporal_patch_size", None)
    # A damaged checkpoint may state anything; its processor says so when it is called.
    return stated if isinstance(stated, int) and stated > 0 else 1
