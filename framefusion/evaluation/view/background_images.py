"""The pictures behind the patches: what the model's processor made of the media, else their own frames."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from framefusion.inference.answer.checkpoint import Checkpoint
    from framefusion.inference.video import Clip

Backdrops = list[tuple[str, np.ndarray | None]]


def backdrops(count: int, checkpoint: Checkpoint, inputs: Mapping[str, Any], media: tuple[Clip, ...]) -> Backdrops:
    """Name and picture (height, width, 3) uint8 for each of `count` grids of patches, in prompt order.

    A processor that crops or cuts pictures into tiles returns them whole, one per grid; one that only resizes, and
    returns patches, leaves the frames as they are, several of them to a grid where it merges along time. Where
    neither fits, the picture is None.
    """
    seen = _seen(count, checkpoint.processor, inputs)
    stills = sum(clip.still for clip in media)
    shown = sum(len(clip.frames) for clip in media)
    # Frames to a grid: the others are grids of their own.
    step = max(1, -(-(shown - stills) // max(1, count - stills)))
    slots = _slots(media, step)
    if len(slots) == count:
        return list(zip([name for name, _ in slots], seen or [pixels for _, pixels in slots], strict=True))
    if count % shown == 0:
        tiles = count // shown
        kinds = [name for name, _ in _slots(media, 1)]
        names = [f"{kinds[number // tiles]}, tile {number % tiles + 1}" for number in range(count)]
    else:
        names = [f"picture {number + 1}" for number in range(count)]
    nothing: list[np.ndarray | None] = [None] * count
    return list(zip(names, seen or nothing, strict=True))


def _slots(media: tuple[Clip, ...], step: int) -> list[tuple[str, np.ndarray]]:
    """Name and first frame of every still, and of every `step` frames of a clip."""
    found, pictures, clips = [], 0, 0
    several = sum(not clip.still for clip in media) > 1
    for clip in media:
        pictures, clips = pictures + clip.still, clips + (not clip.still)
        count = len(clip.frames)
        for first in range(0, count, 1 if clip.still else step):
            name = f"picture {pictures}" if clip.still else _name(first, min(first + step, count))
            found.append((f"clip {clips}, {name}" if several and not clip.still else name, clip.frames[first]))
    return found


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
