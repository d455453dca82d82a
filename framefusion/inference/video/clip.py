"""What a video file becomes: some of its frames and where in time they were."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

FINE_GRID = 1e6
"""Positions per second that tell any two times of a video apart."""


@dataclass(frozen=True, eq=False)
class Clip:
    """Frames sampled from one video, in the order they are shown.

    Args:
        frames: (T, height, width, 3) uint8 RGB, turned upright and downscaled as asked.
        timestamps: T times in seconds, counted from the first frame of the source.
        fps: frames per second of the source (the mean, when its rate varies).
        duration: seconds from the first frame of the source to the end of its last one.
        total_frames: number of frames the source really shows, whatever its header says.
        source: the path that was read.
        indices: T positions of the frames among the `total_frames` of the source.
        damaged: the file holds less than it declares, or a part of it could not be decoded.
        still: it is one picture, which no moment belongs to, and no clip of one frame.

    Example:
        >>> clip = load_clip("clip.mp4", frames=2)
        >>> clip.timestamps, clip.indices, clip.damaged
        ((0.0, 0.875), (0, 7), False)
    """

    frames: np.ndarray = field(repr=False)
    timestamps: tuple[float, ...]
    fps: float
    duration: float
    total_frames: int
    source: str
    indices: tuple[int, ...] = ()
    damaged: bool = False
    still: bool = False

    def metadata(self, grid: float | None = None) -> dict[str, Any]:
        """The fields of transformers' `VideoMetadata`, for a processor called with `do_sample_frames=False`.

        `frames_indices` divided by `fps` are the `timestamps`, since processors turn indices into seconds in that way.
        Both are the file's own where its frames are evenly spaced, else positions on a grid of microseconds.

        Args:
            grid: positions per second of another grid, for processors that round.
        """
        _, height, width, _ = self.frames.shape
        rate = grid or (self.fps if self._even() else FINE_GRID)
        indices = [round(seconds * rate) for seconds in self.timestamps]
        own = rate == self.fps
        return {
            "total_num_frames": self.total_frames if own else max(indices[-1] + 1, round(self.duration * rate)),
            "fps": rate,
            "width": width,
            "height": height,
            "duration": self.duration,
            "video_backend": "pyav",
            "frames_indices": indices,
        }

    def _even(self) -> bool:
        """Whether the frames kept are at multiples of 1 / fps, as far as a time can be told."""
        places = np.array(self.timestamps) * self.fps
        near = np.abs(places - np.rint(places)).max() <= self.fps / FINE_GRID
        return bool(near) and round(float(places[-1])) < self.total_frames
