"""What a file really holds: a walk over its packets, which decodes nothing, or its index where that says as much."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from framefusion.core.errors import BrokenVideoError, EmptyVideoError

from .avi import chunk_count
from .hidden import CODECS, shows_nothing
from .packets import DISCARDED, KEY, Packets, by_index, container_tells, declared_count, in_shown_order
from .source import Source, opened, pyav
from .timeline import increasing
from .upright import Orientation, exif_orientation, stretched

_FALLBACK_RATE = 1.0
_UNKNOWN = np.iinfo(np.int64).min
_HIDDEN = 4
_MOST_DELAY = 16
"""Frames that H.264 can hold back."""


@dataclass(frozen=True, eq=False)
class StreamInfo:
    """stamps: when each frame is shown, in units of `time_base` seconds, None where the file does not say.

    by_rank: the frames themselves carry no stamps, or none to be trusted: the first shown has the lowest, and so on.
    rates: frames per second the file declares, best guess first. tail: seconds the last frame stays.
    width, height: declared size of a frame in pixels, each `pixel` times as wide as high.
    damaged: the file holds less than it declares.
    packets: None where nothing can be sought. indexed: they were not walked over. picture: see `orientation`.
    """

    stamps: list[int | None]
    time_base: Fraction
    rates: tuple[float, ...]
    tail: float
    width: int
    height: int
    pixel: Fraction
    damaged: bool
    by_rank: bool = False
    packets: Packets | None = None
    indexed: bool = False
    picture: Orientation | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """(width, height) of a frame in square pixels."""
        return stretched(self.width, self.height, self.pixel)

    def times(self, shown: Sequence[int | None]) -> np.ndarray:
        """Seconds since the first of the frames with the stamps `shown`."""
        rate = self.rates[0] if self.rates else _FALLBACK_RATE
        if self.by_rank:
            shown = [*self.stamps[: len(shown)], *[None] * (len(shown) - len(self.stamps))]
        base = self.time_base
        # Multiplied before it is divided, a whole tenth of a second is the number nearest to it.
        return increasing(shown, float(1 / (rate * base))) * base.numerator / base.denominator

    def fps(self, times: np.ndarray) -> float:
        """Frames per second at `times`: the declared rate when it fits them to half a frame, else their mean."""
        span, steps = (float(times[-1]), len(times) - 1) if len(times) else (0.0, 0)
        if not steps or span <= 0:
            return 1 / self.tail if self.tail > 0 else self.rates[0] if self.rates else _FALLBACK_RATE
        fitting = [rate for rate in self.rates if abs(rate * span - steps) < 0.5]
        return fitting[0] if fitting else steps / span

    def duration(self, times: np.ndarray) -> float:
        """Seconds from the first frame to the end of the last one."""
        return float(times[-1]) + (self.tail if self.tail > 0 else 1 / self.fps(times))


def read_stream_info(source: Source, *, walk: bool = False) -> StreamInfo:
    """What `source` holds; counts in headers are not trusted. walk: whatever its index says."""
    index = None if walk else by_index(source)
    if index is None:
        return _walked(source)
    packets, stamps, tail = index
    return _stream_info(source, stamps, tail=tail, damaged=False, packets=packets, indexed=True)


def _walked(source: Source) -> StreamInfo:
    """What is known of a file whose packets are read one by one."""
    pts, dts, position, size, lasting, flags, picture, corrupt = _noted_unparsed(source) or _noted(source)
    discarded, hidden = (flags & DISCARDED) != 0, (flags & _HIDDEN) != 0
    shown = ~(discarded | hidden)
    short = len(size) < declared_count(source) or _ends_early(source, dts)
    # The last one of those with the highest stamp.
    last = np.where(discarded, _UNKNOWN, pts)[::-1]
    tail = int(lasting[::-1][last.argmax()]) if last.max() != _UNKNOWN else 0
    # In AVI a chunk is a tick of the clock, and the order of decoding is all that is known of it.
    avi = source.container.format.name == "avi"
    made_up = avi and (bool(source.codec.has_b_frames) or len(set((pts - dts).tolist())) > 1)
    by_rank = made_up or bool((pts[shown] == _UNKNOWN).all())
    if not tail and len(size) == 1 and not short:  # ASF says how long the clip is, not how long a frame stays
        tail = source.stream.duration or 0
    if short and avi:
        chunks = chunk_count(source.name, source.stream.index)
        short = chunks < source.stream.frames
        tail = tail if short else max(tail, chunks - int(dts.max()))
    second = int(1 / (source.stream.time_base or 1))
    delay = _delay(source.name) if made_up and source.codec.has_b_frames else 0
    stamps = _by_rank(dts[shown], delay) if by_rank else in_shown_order(pts[shown], dts[shown], _UNKNOWN, second)
    damaged = source.damaged or short or corrupt
    packets = Packets(position, size, np.where(dts == _UNKNOWN, pts, dts), (flags & KEY) != 0, discarded)
    exact = not (damaged or by_rank or hidden.any()) and packets.tell_apart() and bool((np.diff(stamps) > 0).all())
    return _stream_info(
        source,
        [None if stamp == _UNKNOWN else stamp for stamp in stamps.tolist()],
        by_rank=by_rank,
        tail=tail,
        damaged=damaged,
        packets=packets if exact and (stamps != _UNKNOWN).all() else None,
        picture=picture,
    )


def _noted_unparsed(source: Source) -> Any:
    """As `_noted` in less time, None where the container does not say all that FFmpeg's parsers find in the packets."""
    if not container_tells(source):
        return None
    with opened(source.name, parsed=False) as walk:
        noted = _noted(walk)
        if (noted[0] == _UNKNOWN).any():  # frames that share a block
            return None
        source.adopt(walk)
        return noted


def _noted(source: Source) -> Any:
    """pts, dts, position, size, duration, flags, (P,) int64 each; what EXIF says; whether the last one is corrupt."""
    codec, picture, corrupt, rows = source.codec.name, None, False, array("q")
    hiding = codec in CODECS
    for packet in source.packets():
        corrupt = packet.is_corrupt
        picture = picture if rows else exif_orientation(source.name, codec, packet)
        pts, dts, position = packet.pts, packet.dts, packet.pos
        flags = packet.is_keyframe * KEY | packet.is_discard * DISCARDED
        if hiding and shows_nothing(codec, packet):
            flags |= _HIDDEN
        rows.extend(
            (
                _UNKNOWN if pts is None else pts,
                _UNKNOWN if dts is None else dts,
                -1 if position is None else position,
                packet.size,
                packet.duration or 0,
                flags,
            )
        )
    _check_any(source, len(rows))
    return *np.frombuffer(rows, np.int64).reshape(-1, 6).T, picture, corrupt


def _by_rank(dts: np.ndarray, delay: int) -> np.ndarray:
    """Stamps in the order of showing, `_UNKNOWN` for the last ones: a frame is due when it comes out of the decoder."""
    return np.append(np.sort(dts)[delay:], np.full(min(delay, len(dts)), _UNKNOWN))


def _delay(name: str) -> int:
    """Packets that go into the decoder before the one with which the first frame comes out."""
    with opened(name) as source:
        source.codec.thread_type = "SLICE"
        for count, packet in zip(range(_MOST_DELAY + 1), source.packets(), strict=False):
            if source.decoded(packet):
                return count
    return 0


def _stream_info(source: Source, stamps: list[int | None], *, tail: int, **more: Any) -> StreamInfo:
    stream = source.stream
    base = stream.time_base or Fraction(1, 1)
    return StreamInfo(
        stamps=stamps,
        time_base=base,
        rates=tuple(float(rate) for rate in (stream.guessed_rate, stream.average_rate) if rate),
        tail=float(tail * base),
        width=source.codec.width,
        height=source.codec.height,
        pixel=source.pixel,
        **more,
    )


def _check_any(source: Source, seen: int) -> None:
    if seen:
        return
    if source.damaged or source.stream.frames:
        why = source.trouble or f"it declares {source.stream.frames} frames, but ends before the first"
        raise BrokenVideoError(f"{source.name} cannot be read as a video", why, "copy or download it again")
    raise EmptyVideoError(f"{source.name} holds no frame", "its video stream is empty", "record or export it again")


def _ends_early(source: Source, dts: np.ndarray) -> bool:
    """Whether the packets stop well before the declared end, as in a copy that was cut off. dts: (P,) int64."""
    declared, stream, second = source.container.duration, source.stream, pyav().time_base
    # Ogg declares nothing: FFmpeg looks for the last page.
    if not declared or source.container.format.name == "ogg":
        return False
    first, base = int(dts[0]), float(stream.time_base or 0)
    # Matroska declares when the clip ends, the others how long it is, FLV counted from the first frame decoded.
    start = source.container.start_time or 0
    if first != _UNKNOWN:
        start = min(start, int(first * base * second))
    start = 0 if source.container.format.name.startswith("matroska") else start
    # Headers round and estimate, but for a tenth of the length; FLV, ASF and MPEG-TS do not say how long a frame stays.
    step = 1 / float(stream.average_rate or (stream.guessed_rate if len(dts) > 1 else None) or _FALLBACK_RATE)
    known = dts[dts != _UNKNOWN]
    step = max(step, float(np.median(np.diff(known))) * base if len(known) > 1 else 0)
    return source.end + step < (start + 0.9 * declared) / second
