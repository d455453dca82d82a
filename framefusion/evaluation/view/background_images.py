"""The pictures behind the patches: what the model's processor made of the clip, else the clip's own frames."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from framefusion.inference.answer.checkpoint import Checkpoint
    from framefusion.inference.video import Clip

Backdrops = list[tuple[str, np.ndarray | None]]


def backdrops(count: int, checkpoint: Checkpoint, inputs: Mapping[str, Any], clip: Clip) -> Backdrops:
    """Name and picture (height, width, 3) uint8 for each of `count` grids of patches, in prompt order.

    A processor that crops or cuts pictures into tiles returns them whole, one per grid; one that only resizes, and
    returns patches, leaves the frames as they are, several of them to a grid where it merges along time. Where
    neither fits, the picture is None.
    """
    seen = _seen(count, checkpoint.processor, inputs)
    frames = len(clip.frames)
    per_grid = -(-frames // count)
    if -(-frames // per_grid) == count:
        names = [_name(first, min(first + per_grid, frames)) for first in range(0, frames, per_grid)]
        return list(zip(names, seen or [clip.frames[first] for first in range(0, frames, per_grid)], strict=True))
    if count % frames == 0:
        tiles = count // frames
        names = [f"frame {number // tiles + 1}, tile {number % tiles + 1}" for number in range(count)]
    else:
        names = [f"picture {number + 1}" for number in range(count)]
    nothing: list[np.ndarray | None] = [None] * count
    return list(zip(names, seen or nothing, strict=True))


def _name(first: int, end: int) -> str:
    return f"frame {first + 1}" if end == first + 1 else f"frames {first + 1}–{end}"


def _seen(count: int, processor: Any, inputs: Mapping[str, Any]) -> list[np.ndarray] | None:
    """Pictures as the model was given them, in colours for people; None where the inputs hold no whole pictures."""
    for name, value in inputs.items():
        if not name.startswith("pixel_values") or value.ndim < 4 or value.shape[-3] != 3:
            continue
        pixels = value.detach().float().cpu().reshape(-1, *value.shape[-3:]).numpy()
        if len(pixels) == count:
            reader = getattr(processor, "video_processor" if name.endswith("videos") else "image_processor", None)
            return [_visible(picture, reader) for picture in pixels]
    return None


def _visible(pixels: np.ndarray, reader: Any) -> np.ndarray:
    """pixels: (3, height, width) as a processor normalised them -> (height, width, 3) uint8."""
    mean, std = getattr(reader, "image_mean", None), getattr(reader, "image_std", None)
    if mean is not None and std is not None and getattr(reader, "do_normalize", True):
        pixels = pixels * np.reshape(std, (-1, 1, 1)) + np.reshape(mean, (-1, 1, 1))
    scale = 255.0 if pixels.max() <= 2.0 else 1.0
    return (pixels * scale).round().clip(0, 255).astype(np.uint8).transpose(1, 2, 0)
