"""Where the packets of a video stream lie, and when what is in them is shown."""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import limits
from .source import Source, pyav

INDEXED_FRAMES = 2000
"""Frames from which a complete index spares a walk over all packets."""

UNPARSED = ("h264", "hevc", "av1", "libdav1d", "libaom-av1", "vp8", "vp9", "mjpeg", "prores")
"""Decoders of which FFmpeg's parsers find nothing that Matroska does not say, but need a third of a walk's time."""

KEY, DISCARDED = 1, 2


@dataclass(frozen=True, eq=False)
class Packets:
    """Of the video stream, in file order, (P,) each: bytes from the start of the file, bytes long, time, two flags.

    time: what to seek to, in the stream's unit.
    """

    position: np.ndarray
    size: np.ndarray
    time: np.ndarray
    key: np.ndarray
    discarded: np.ndarray

    def tell_apart(self) -> bool:
        """Whether a packet is known by its place in the file."""
        return bool((self.position >= 0).all() and (np.diff(self.position) > 0).all())


def in_shown_order(pts: np.ndarray, dts: np.ndarray, unknown: int, second: int) -> np.ndarray:
    """pts, dts: (P,) int64 in file order, `unknown` where missing. Returns `pts` as a decoder gives the frames out.

    Where the clock falls back by more than a `second` another recording begins, which is shown after the first.
    """
    keys = np.where(pts == unknown, dts, pts)
    known = np.flatnonzero(dts != unknown)
    falls = np.zeros(len(dts), dtype=bool)
    falls[known[1:]] = np.diff(dts[known]) < -second
    part = np.cumsum(falls)
    return pts[np.lexsort((keys, part))]


def by_index(source: Source) -> tuple[Packets, list[int | None], int] | None:
    """Packets, stamps of the frames shown, and the ticks the last one stays, from the index of an mp4 file.

    None where a walk has to find out: the index is short, does not say when frames are shown, or names bytes that are
    not there.
    """
    stream, entries = source.stream, _index_of(source.stream)
    if not source.container.format.name.startswith("mov") or len(entries) < max(INDEXED_FRAMES, stream.frames):
        return None
    if not stream.frames or any(_beyond(other, source.size) for other in source.container.streams):
        return None
    rows = array("q")
    for entry in entries:
        rows.extend((entry.pos, entry.size, entry.timestamp, entry.flags))
    position, size, time, flags = np.frombuffer(rows, np.int64).reshape(-1, 4).T
    limits.check_walk(source.name, len(time), int(size.sum()), source.size)
    packets = Packets(position, size, time, (flags & KEY) != 0, (flags & DISCARDED) != 0)
    steps = np.diff(time)
    even = bool((steps == steps[0]).all())
    whole = bool((position + size).max() <= source.size) and bool((size > 0).all())
    if not (whole and packets.tell_apart() and (steps > 0).all() and (even or not source.codec.has_b_frames)):
        return None
    first = next(source.packets(), None)
    source.seek(int(time[0]))
    if first is None or None in (first.pts, first.dts) or (first.pos, first.dts) != (position[0], time[0]):
        return None
    # Frames are shown as they are decoded, or at an even rate; `seek` looks whether it is so.
    stamps = time + (first.pts - first.dts)
    if source.codec.has_b_frames:
        early, count = int(packets.discarded[: len(time) // 2].sum()), int((~packets.discarded).sum())
        stamps = stamps[early : early + count]
    else:
        stamps = stamps[~packets.discarded]
    return packets, stamps.tolist(), first.duration or int(steps[-1])


def container_tells(source: Source) -> bool:
    """Whether the packets of a long file need not be looked into to know what `Packets` says of them."""
    seconds = (source.container.duration or 0) / pyav().time_base
    long = seconds * (source.stream.average_rate or 0) >= INDEXED_FRAMES
    return long and source.container.format.name.startswith("matroska") and source.codec.name in UNPARSED


def declared_count(source: Source) -> int:
    """Packets of the video stream that the file announces, 0 where it does not; an edit list leaves some out."""
    count, entries = source.stream.frames, len(_index_of(source.stream))
    return min(count, entries) if entries and source.container.format.name.startswith("mov") else count


def _index_of(stream: Any) -> Any:
    """What the index of a stream names; PyAV 15 does not show it."""
    return getattr(stream, "index_entries", ())


def _beyond(stream: Any, size: int) -> bool:
    """Whether the last thing the index of a stream names lies beyond the end of the file."""
    entries = _index_of(stream)
    return bool(len(entries)) and entries[-1].pos + entries[-1].size > size
