"""Frames far apart in a long file, decoded from the key frame before each: the same pictures with much less work."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np

from . import limits
from .decode import Album, Decoded
from .limits import Bounds
from .packets import Packets
from .source import Source, pyav
from .stream_info import StreamInfo

CODECS = (
    "h264",
    "hevc",
    "av1",
    "libdav1d",
    "libaom-av1",
    "vp8",
    "vp9",
    "mpeg1video",
    "mpeg2video",
    "mpeg4",
    "mjpeg",
    "prores",
)
"""Decoders that show one frame for each packet and start afresh at a key frame."""

SKIPPING = ("h264",)
"""Those in which a frame says for sure that no other one needs it."""

LEAST_MPEG4_BYTES = 16
"""A smaller packet of MPEG-4 says only that a frame was left out, or that it came in the packet before."""

LEAST_PACKETS = 600
LARGEST_SHARE = 0.5
"""Short files, and more than half of the packets, are read from the start to the end."""


class NotExact(Exception):
    """What comes out after seeking is not what the stream info promised."""


@dataclass(frozen=True)
class _Jump:
    """key: packet to start from. slots: where in the album each wanted stamp goes. last: up to the end of the file."""

    key: int
    slots: dict[int, int]
    last: bool = False


def seek(source: Source, info: StreamInfo, chosen: Sequence[int], bounds: Bounds) -> Decoded | None:
    """As `decode`; None where decoding everything does not take longer, NotExact where only that is exact.

    The end of the file is always decoded, so that a copy that was cut off is noticed whichever frames are chosen.
    """
    packets = info.packets
    if packets is None or source.codec.name not in CODECS or len(packets.size) < LEAST_PACKETS:
        return None
    if source.codec.name == "mpeg4" and packets.size.min() < LEAST_MPEG4_BYTES:
        return None
    jumps, cost = _jumps(packets, info.stamps, chosen)
    if not jumps or cost > LARGEST_SHARE * len(packets.size):
        return None
    limits.check_work(source.name, cost * info.width * info.height)
    album = Album(source.name, len(chosen), bounds, source.pixel, info.picture)
    reading = _Reading(source, packets, info.stamps, album)
    # Threads that work on frames ahead would decode some that nobody asked for.
    source.codec.thread_type = "SLICE"
    try:
        for jump in jumps:
            reading.run(jump)
    except pyav().error.FFmpegError as error:
        raise NotExact from error
    return Decoded(album.frames, list(chosen), list(info.stamps), wanted=len(chosen))


def _jumps(packets: Packets, stamps: Sequence[Any], chosen: Sequence[int]) -> tuple[list[_Jump], int]:
    """The jumps that reach all chosen frames, in file order, and how many packets they decode."""
    keys = np.flatnonzero(packets.key)
    # The frame shown r-th is about the r-th in the file; what is shown before its key frame is found when it is read.
    places = np.flatnonzero(~packets.discarded)[np.asarray(chosen, dtype=np.int64)]
    before = np.searchsorted(keys, places, "right") - 1
    if not len(keys) or before.min() < 0:
        return [], 0
    wanted: dict[int, dict[int, int]] = {}
    ends: dict[int, int] = {}
    for slot, (rank, place, key) in enumerate(zip(chosen, places.tolist(), keys[before].tolist(), strict=True)):
        wanted.setdefault(key, {})[stamps[rank]] = slot
        ends[key] = place
    last = int(keys[-1])
    wanted.setdefault(last, {})
    ends[last] = len(packets.size) - 1
    cost = sum(end - key + 1 for key, end in ends.items())
    return [_Jump(key, wanted[key], key == last) for key in sorted(wanted)], cost


class _Reading:
    """Packets in from a key frame on, and every frame that comes out compared with what the stream info promised."""

    def __init__(self, source: Source, packets: Packets, stamps: Sequence[Any], album: Album) -> None:
        self.source, self.packets, self.stamps, self.album = source, packets, stamps, album
        self.start = self.rank = 0

    def run(self, jump: _Jump) -> None:
        packets = self._from(jump.key)
        first = next(packets)
        early = {stamp: slot for stamp, slot in jump.slots.items() if stamp < first.pts}
        if early:
            packets.close()
            self.run(_Jump(self._key_before(jump.key), early))
            return self.run(_Jump(jump.key, {s: slot for s, slot in jump.slots.items() if s not in early}, jump.last))
        self.start, self.rank = first.pts, bisect_left(self.stamps, first.pts)
        missing = dict(jump.slots)
        # The key frame must come out, or it was none: where an edit hides it, all frames after it have to.
        skipping = self.source.codec.name in SKIPPING and not jump.last and not self.packets.discarded[jump.key]
        for packet in chain([first], packets):
            if not missing and not jump.last:
                return None
            # A frame that no other one needs is decoded only if it is wanted itself.
            self.source.codec.skip_frame = "NONREF" if skipping and packet.pts not in missing else "DEFAULT"
            self._take(self.source.decoded(packet), missing, skipping)
        self._take(self.source.decoded(None), missing, skipping)
        if missing or (jump.last and self.rank != len(self.stamps)):
            raise NotExact
        return None

    def _take(self, frames: Sequence[Any], missing: dict[int, int], skipping: bool) -> None:
        """Keep what is wanted of `frames`, which must be the next ones to be shown, or some of them when skipping."""
        if self.source.damaged:
            raise NotExact
        for frame in frames:
            started = self.rank and self.stamps[self.rank - 1] >= self.start
            if frame.pts is None or (frame.pts < self.start and started):
                raise NotExact
            if frame.pts < self.start:  # it needs frames from before the key frame
                continue
            rank = bisect_left(self.stamps, frame.pts, self.rank)
            if rank == len(self.stamps) or self.stamps[rank] != frame.pts:
                raise NotExact
            if rank != self.rank and not (skipping and started):
                raise NotExact
            self.rank = rank + 1
            if frame.pts in missing:
                self.album.put(missing.pop(frame.pts), frame)

    def _key_before(self, key: int) -> int:
        keys = np.flatnonzero(self.packets.key[:key])
        if not len(keys):
            raise NotExact
        return int(keys[-1])

    def _from(self, key: int) -> Generator[Any]:
        """Packets from the one at `key` on, each of which must be where the stream info has seen it."""
        position, size = self.packets.position, self.packets.size
        for time in self._times(key):
            self.source.seek(time)
            place = key - 1
            for packet in self.source.packets():
                if packet.pos is None or (place < key and packet.pos > position[key]):
                    break
                if packet.pos < position[key]:
                    continue
                place += 1
                if place == len(size) or (packet.pos, packet.size) != (position[place], size[place]):
                    raise NotExact
                if packet.pts is None:
                    raise NotExact
                yield packet
            if place >= key:
                return
        raise NotExact

    def _times(self, key: int) -> Iterator[int]:
        """What to ask the container for until it goes to the packet at `key` or to one before it."""
        shown_before = int((~self.packets.discarded[:key]).sum())
        yield max(int(self.packets.time[key]), self.stamps[min(shown_before, len(self.stamps) - 1)])
        yield int(self.packets.time[key])
        yield int(self.packets.time[self._key_before(key)])
