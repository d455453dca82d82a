"""What a file really holds: a walk over all its packets, which decodes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

import numpy as np

from ..errors import BrokenVideoError, EmptyVideoError
from .source import Source, opened, pyav

_FALLBACK_RATE = 1.0


@dataclass(frozen=True)
class Survey:
    """pts: when each frame is shown, in units of `time_base` seconds, None where the file does not say.

    rates: frames per second the file declares, best guess first. tail: seconds the last frame stays.
    width, height: declared size of a frame in pixels. damaged: the file holds less than it declares.
    """

    pts: list[int | None]
    time_base: Fraction
    rates: tuple[float, ...]
    tail: float
    width: int
    height: int
    damaged: bool

    def times(self, pts: Sequence[int | None]) -> np.ndarray:
        """Seconds since the first of `pts`; evenly spaced when the stamps are missing or do not increase."""
        stamps = [stamp for stamp in pts if stamp is not None]
        if len(stamps) < len(pts) or any(later <= sooner for sooner, later in pairwise(stamps)):
            return np.arange(len(pts)) / (self.rates[0] if self.rates else _FALLBACK_RATE)
        return np.array([stamp - stamps[0] for stamp in stamps], dtype=np.float64) * float(self.time_base)

    def fps(self, times: np.ndarray) -> float:
        """Frames per second at `times`: the declared rate when it fits them to half a frame, else their mean."""
        span, steps = (float(times[-1]), len(times) - 1) if len(times) else (0.0, 0)
        if not steps or span <= 0:
            return self.rates[0] if self.rates else (1 / self.tail if self.tail > 0 else _FALLBACK_RATE)
        fitting = [rate for rate in self.rates if abs(rate * span - steps) < 0.5]
        return fitting[0] if fitting else steps / span

    def duration(self, times: np.ndarray) -> float:
        """Seconds from the first frame to the end of the last one."""
        return float(times[-1]) + (self.tail if self.tail > 0 else 1 / self.fps(times))


def survey_file(name: str) -> Survey:
    """Walk the packets of the file `name`; counts in headers are not trusted."""
    with opened(name) as source:
        stream = source.stream
        pts, tail, seen = [], 0, 0
        last = None
        for packet in source.packets():
            seen += 1
            if packet.is_discard:
                continue
            pts.append(packet.pts)
            if last is None or (packet.pts is not None and packet.pts >= last):
                last, tail = packet.pts, packet.duration or 0
        _check_found(source, seen)
        base = stream.time_base or Fraction(1, 1)
        guesses = (stream.guessed_rate, stream.average_rate)
        return Survey(
            pts=pts if None in pts else sorted(pts),
            time_base=base,
            rates=tuple(float(rate) for rate in guesses if rate),
            tail=float(tail * base),
            width=source.codec.width,
            height=source.codec.height,
            damaged=source.damaged or seen < stream.frames or _ends_early(source),
        )


def _check_found(source: Source, seen: int) -> None:
    if seen:
        return
    if source.damaged or source.stream.frames:
        why = source.trouble or f"it declares {source.stream.frames} frames, but ends before the first"
        raise BrokenVideoError(f"{source.name} cannot be read as a video", why, "copy or download it again")
    raise EmptyVideoError(f"{source.name} holds no frame", "its video stream is empty", "record or export it again")


def _ends_early(source: Source) -> bool:
    """Whether the packets stop well before the declared end, as in a copy that was cut off."""
    declared = source.container.duration
    if not declared:
        return False
    start = source.container.start_time or 0
    # Headers round and estimate: a tenth of the length is no rounding any more.
    return source.end < (start + 0.9 * declared) / pyav().time_base
