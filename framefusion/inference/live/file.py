"""A video file, from its beginning to its end."""

from __future__ import annotations

from collections.abc import Iterator

from framefusion.inference.video.animation import is_animation, read_animation
from framefusion.inference.video.limits import Bounds
from framefusion.inference.video.source import opened, reading

from .decoding import frames_of
from .items import Raw, Shown


def frames_of_file(name: str, bounds: Bounds) -> Iterator[Raw]:
    """Frames of a regular file. Raises VideoError."""
    with reading(name):
        if is_animation(name):
            clip = read_animation(name, None, None, bounds)
            yield from map(Shown, clip.frames, clip.timestamps)
            return
        with opened(name, endless=True) as source:
            yield from frames_of(source, live=False)
