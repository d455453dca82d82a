"""Which frames to keep: from counts and times alone, without looking into a picture."""

from __future__ import annotations

from typing import Annotated

import numpy as np

from framefusion.core.options import Count, Interval, Rate, checked

from .limits import MAX_PACKETS


def sample_indices(total: int, frames: int | None, source_fps: float, fps: float | None) -> list[int]:
    """Which frames of a clip to keep. With neither `frames` nor `fps`, or where there are no more: every frame.

    Args:
        total: frames of the clip.
        frames: at most so many, evenly over the clip, the first and the last included (the first alone for 1).
        source_fps: constant rate of the clip.
        fps: the frame at each 1/fps seconds; `frames` evenly spaced ones when those are more.

    Returns:
        Strictly increasing indices.

    Raises:
        OptionError: an argument is outside its range.

    Example:
        >>> sample_indices(9, 3, source_fps=30, fps=None)
        [0, 4, 8]
    """
    total = checked("total", Annotated[int, Interval(f"[0, {MAX_PACKETS}]")], total)
    frames, fps = check_amount(frames, fps)
    return sample_times(np.arange(total) / checked("source_fps", Rate, source_fps), frames, fps)


def check_amount(frames: int | None, fps: float | None) -> tuple[int | None, float | None]:
    """The two numbers as int and float, None left as it is."""
    hint = "leave it out for the default"
    return checked("frames", Count | None, frames, hint), checked("fps", Rate | None, fps, hint)


def sample_times(times: np.ndarray, frames: int | None, fps: float | None) -> list[int]:
    """As `sample_indices`, for frames shown at `times`: (total,) strictly increasing seconds, evenly spaced or not."""
    total = len(times)
    if total and fps is not None:
        chosen = _every(times, fps)
        if frames is None or len(chosen) <= frames:
            return chosen
    if frames is None or total <= frames:
        return list(range(total))
    return _spread(times, frames)


def _every(times: np.ndarray, fps: float) -> list[int]:
    """The first frame at or after each multiple of 1/fps."""
    since = times - times[0]
    usual = float(np.median(np.diff(times))) if len(times) > 1 else 0.0
    # Containers round times (webm to milliseconds), so a frame may come a little before the instant it is meant for.
    early = 0.25 * min(usual, 1 / fps)
    slots = np.floor((since + early) * fps)
    return np.flatnonzero(np.diff(slots, prepend=-1.0) > 0).tolist()


def _spread(times: np.ndarray, frames: int) -> list[int]:
    """The frames nearest to `frames` evenly spaced instants; where two are the same, others from all over the clip."""
    if frames == 1:
        return [0]
    instants = np.linspace(times[0], times[-1], frames)
    right = np.clip(np.searchsorted(times, instants), 1, len(times) - 1)
    before, after = instants - times[right - 1], times[right] - instants
    # The slack sends ties to the earlier frame, whatever the rounding of the times.
    nearest = np.unique(np.where(before <= after * (1 + 1e-6), right - 1, right))
    surplus = frames - len(nearest)
    left = np.delete(np.arange(len(times)), nearest)
    more = left[((np.arange(surplus) + 0.5) * len(left) / max(surplus, 1)).astype(np.int64)]
    return np.sort(np.concatenate((nearest, more))).tolist()
