"""Frames of an open container, without any bound on their number."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from framefusion.inference.video.reader import Endless
from framefusion.inference.video.source import Source

from .items import Notice, Shown

USUAL_RATE = 25.0
"""Frames per second of a source that declares none."""


def live_source(name: str, container: Any) -> Source:
    """The video stream of a container that PyAV has opened."""
    return Source(name, container, Endless(), endless=True)


def frames_of(source: Source, *, live: bool) -> Iterator[Shown | Notice]:
    """Frames as they are decoded, with a notice where something was passed over.

    live: give each frame out as soon as it can be decoded, instead of several at a time.
    """
    stream, last = source.stream, None
    step = 1 / float(stream.average_rate or stream.guessed_rate or USUAL_RATE)
    # Of AVI with B-frames FFmpeg makes times up that jump back and forth.
    made_up = source.container.format.name == "avi" and bool(source.codec.has_b_frames)
    for frame in source.frames("SLICE" if live else "AUTO"):
        if source.damaged:
            yield _damage(source)
        base = frame.time_base or stream.time_base
        if frame.pts is None or not base or made_up:
            last = 0.0 if last is None else last + step
        else:
            last = float(frame.pts * base)
        yield Shown(frame, last, source.pixel)
    if source.damaged:
        yield _damage(source)


def _damage(source: Source) -> Notice:
    """What was met since the last time this was asked."""
    why = source.trouble or "a frame is corrupt, or the end is missing"
    source.damaged, source.trouble = False, ""
    return Notice("damaged", f"a part of {source.name} was passed over: {why}")
