"""Clips as the tower takes them: a number of frames of a file, all of one size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from framefusion.core.errors import OptionError

ENDINGS = (".mp4", ".mkv", ".webm", ".mov", ".avi")
BESIDE = Path(__file__).parents[2].parent / "shared" / "videos"
OWN = Path(__file__).parents[2] / "framefusion" / "cli" / "demo_clip" / "example.mp4"
STILL, FADE = "still", "fade"
"""Clips that are made of the first frame of another: repeated, and darkened by FADE_STEP with every frame."""
FADE_FRAMES, FADE_STEP = 300, 0.002


def files(folder: Path | None) -> dict[str, Path]:
    """Video files by name. folder: where they lie; None takes those beside the checkout, else the demo's clip.

    Raises OptionError where there are none.
    """
    if folder is None:
        folder = BESIDE if BESIDE.is_dir() else OWN.parent
    if not folder.is_dir():
        raise OptionError(f"--videos {folder} is no folder", hint="name a folder with video files")
    found = {path.stem: path for path in sorted(folder.iterdir()) if path.suffix.lower() in ENDINGS}
    if not found:
        raise OptionError(f"there is no video in --videos {folder}", hint=f"files that end in {', '.join(ENDINGS)}")
    return found


def write_still(like: Path, path: Path, frames: int) -> None:
    """Write a clip that shows the first frame of another `frames` times."""
    from framefusion.inference.video import load_clip, write_clip

    first = np.asarray(load_clip(like, frames=frames).frames)[:1]
    write_clip(path, np.repeat(first, frames, 0), fps=8)


def faded(like: Path) -> Tensor:
    """(T, H, W, 3) bytes of the clip that fades."""
    first = load(like, FADE_FRAMES)[:1].float()
    light = 1.0 - FADE_STEP * torch.arange(FADE_FRAMES).view(-1, 1, 1, 1)
    return torch.cat([(first * part).round().to(torch.uint8) for part in light.split(1)])


def load(path: Path, frames: int) -> Tensor:
    """(T, H, W, 3) bytes."""
    from framefusion.inference.video import load_clip

    return torch.from_numpy(np.asarray(load_clip(path, frames=frames).frames))


def resized(frames: Tensor, side: int) -> Tensor:
    """(T, H, W, 3) bytes -> (T, 3, side, side) on [0, 1]."""
    return torch.cat([_square(part, side) for part in frames.split(8)])


def _square(frames: Tensor, side: int) -> Tensor:
    pixels = frames.permute(0, 3, 1, 2).float().div(255.0)
    return F.interpolate(pixels, size=(side, side), mode="bicubic", antialias=True).clamp(0.0, 1.0)


def normalised(pixels: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """(T, 3, H, W) on [0, 1] -> as a processor hands them to the tower."""
    spread = [torch.tensor(part).view(3, 1, 1) for part in (mean, std)]
    return (pixels - spread[0]) / spread[1]
