"""What a stream tells of itself, and its answers."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class StreamStatus:
    """A stream so far.

    Args:
        seconds_seen: time of the latest frame that was fed.
        frames_seen: frames fed, those that wait for their window included.
        windows: that were read.
        tokens_seen: visual tokens and words of the windows, as the dense model would have kept them.
        tokens_kept: entries of the layer that holds most.
        cache_bytes: of all layers: keys, values, and what tells when and where they were.
        full_cache_bytes: that the cache would have without method and policy.
        last_window_seconds: what reading the latest window took, compression included.

    Example:
        >>> clip = load_clip("clip.mp4", frames=8)
        >>> with ff.stream(model, checkpoint.processor, memory=256, window=4) as video:
        ...     video.feed(clip.frames, clip.timestamps)
        ...     status = video.status
        >>> status.frames_seen, status.windows, status.seconds_seen
        (8, 2, 0.875)
    """

    seconds_seen: float
    frames_seen: int
    windows: int
    tokens_seen: int
    tokens_kept: int
    cache_bytes: int
    full_cache_bytes: int
    last_window_seconds: float

    def to_dict(self) -> dict[str, Any]:
        """All of it by name."""
        return asdict(self)


@dataclass(frozen=True)
class StreamAnswer:
    """An answer to a question about a stream.

    Args:
        text: the answer.
        seconds: time of the latest frame it could see.
        tokens_read: entries of memory that it was read from, in the layer that holds most.

    Example:
        >>> clip = load_clip("clip.mp4", frames=8)
        >>> with ff.stream(model, checkpoint.processor) as video:
        ...     video.feed(clip.frames, clip.timestamps)
        ...     answer = video.ask("which colour flashed?")
        >>> answer.seconds
        0.875
    """

    text: str
    seconds: float
    tokens_read: int

    def __str__(self) -> str:
        return self.text
