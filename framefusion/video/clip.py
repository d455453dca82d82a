"""What a video file becomes: some of its frames and where in time they were."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True, eq=False)
class Clip:
    """Frames sampled from one video, in the order they are shown.

    frames: (T, height, width, 3) uint8 RGB, turned upright and downscaled as asked.
    timestamps: T times in seconds, counted from the first frame of the source.
    fps: frames per second of the source (the mean, when its rate varies).
    duration: seconds from the first frame of the source to the end of its last one.
    total_frames: number of frames the source really shows, whatever its header says.
    source: the path that was read.
    indices: T positions of the frames among the `total_frames` of the source.
    damaged: the file holds less than it declares, or a part of it could not be decoded.
    """

    frames: np.ndarray = field(repr=False)
    timestamps: tuple[float, ...]
    fps: float
    duration: float
    total_frames: int
    source: str
    indices: tuple[int, ...] = ()
    damaged: bool = False

    def metadata(self) -> dict[str, Any]:
        """The fields of transformers' `VideoMetadata`, for a processor called with `do_sample_frames=False`.

        `frames_indices` are positions on an even grid of `fps` (the file's own indices when its rate is constant),
        because processors turn them back into seconds by dividing by `fps`.
        """
        _, height, width, _ = self.frames.shape
        last = self.total_frames - 1
        return {
            "total_num_frames": self.total_frames,
            "fps": self.fps,
            "width": width,
            "height": height,
            "duration": self.duration,
            "video_backend": "pyav",
            "frames_indices": [min(round(seconds * self.fps), last) for seconds in self.timestamps],
        }
