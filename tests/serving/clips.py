"""Clips made by hand, in the form the engine takes them."""

from __future__ import annotations

from typing import Any

import numpy as np

SIDE = 56
FPS = 2.0
TOKENS = {
    **dict.fromkeys(("qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_5", "glm4v"), 64),
    **dict.fromkeys(("llava_onevision", "internvl", "minicpmv4_6", "llava_next_video"), 128),
}
"""Visual tokens of eight frames; the Qwen kin make one time step of two frames. LLaVA's newline is not counted."""


def moving(frames: int = 8, seed: int = 0, side: int = SIDE) -> np.ndarray:
    """(T, side, side, 3) uint8: every frame is another noise."""
    return np.random.default_rng(seed).integers(0, 256, (frames, side, side, 3), dtype=np.uint8)


def still(frames: int = 8, seed: int = 0, side: int = SIDE) -> np.ndarray:
    """The same picture over and over."""
    return moving(1, seed, side).repeat(frames, 0)


def with_metadata(clip: np.ndarray) -> tuple[np.ndarray, dict[str, Any]]:
    """A clip with what a decoder would say about it."""
    known = {
        "fps": FPS,
        "duration": len(clip) / FPS,
        "total_num_frames": len(clip),
        "frames_indices": list(range(len(clip))),
        "video_backend": "opencv",
        "do_sample_frames": False,
    }
    return clip, known


def corners(frames: int = 8) -> np.ndarray:
    """A still clip in which one corner changes from the middle on, and another one from three quarters on."""
    clip = still(frames)
    half = SIDE // 2
    clip[frames // 2 :, :half, :half] = moving(1, 5)[:, :half, :half]
    clip[3 * frames // 4 :, half:, half:] = moving(1, 6)[:, half:, half:]
    return clip
