"""Bounds that keep a careless or hostile file from taking all memory or all time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from framefusion.core.errors import VideoTooLargeError

if TYPE_CHECKING:
    import numpy as np

DEFAULT_MAX_PIXELS = 2**28
"""Pixels of all kept frames together: 128 frames of 1920x1080, 0.8 GB as RGB."""

MAX_FRAME_PIXELS = 2**26
"""Pixels of one frame as the decoder sees it: 8192x8192."""

MAX_PACKETS = 4_000_000
"""Packets of all streams walked in one file: about half a day of picture and sound."""

MAX_DECODED_PIXELS = 2**42
"""Pixels decoded in one pass over a file: about 20 hours of 1920x1080 at 30 frames per second."""

MAX_READ_RATIO = 16
"""Bytes of all packets over bytes of the file: an index may name the same bytes again and again."""

MAX_BARREN_BYTES = 2**26
"""Bytes read on end without a packet, beside those of a frame."""

BYTES_PER_PIXEL = 8
"""Of an uncoded frame with 16 bits and alpha; no coded one has more."""

MAX_PICTURE_BYTES = 2**29
"""Bytes of a still picture, or of an animated WebP, which are in memory as a whole."""

_SHORTER = "cut the video into shorter pieces and read them one by one"


class Resize(Protocol):
    """Makes frames smaller, one by one as they are decoded."""

    def size(self, frames: int, height: int, width: int) -> tuple[int, int] | None:
        """(height, width) that each of `frames` frames of this size becomes; None leaves them as they are."""

    def frame(self, picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """picture: (H, W, 3) uint8 -> (height, width, 3) uint8."""


@dataclass(frozen=True)
class Bounds:
    """max_pixels: of all kept frames together. max_side: the longer side of a kept frame, in pixels, or None.

    resize: what makes each frame smaller before it is kept, or None.
    """

    max_pixels: int = DEFAULT_MAX_PIXELS
    max_side: int | None = None
    resize: Resize | None = None

    def resized(self, count: int, height: int, width: int) -> tuple[int, int] | None:
        """(height, width) that `resize` gives each of `count` upright frames, None where it leaves them as they are."""
        return None if self.resize is None else self.resize.size(count, height, width)

    def fit(self, width: int, height: int) -> tuple[int, int]:
        """(width, height) of a kept frame: the aspect ratio is kept, nothing is enlarged."""
        longer = max(width, height)
        if self.max_side is None or longer <= self.max_side:
            return width, height
        scale = self.max_side / longer
        return max(1, round(width * scale)), max(1, round(height * scale))

    def check_kept(self, source: str, count: int, width: int, height: int) -> None:
        """Refuse `count` kept frames of a source of `width` x `height` if they exceed `max_pixels`."""
        width, height = self.fit(width, height)
        height, width = self.resized(count, height, width) or (height, width)
        if count * width * height > self.max_pixels:
            raise VideoTooLargeError(
                f"{source}: {count} frames of {width}x{height} are too large to keep",
                f"{count * width * height} pixels exceed max_pixels={self.max_pixels}",
                "ask for fewer frames (frames=...), smaller ones (max_side=...) or raise max_pixels",
            )


def check_frame(source: str, width: int, height: int) -> None:
    """Refuse a source frame the decoder should not be asked to hold."""
    if width * height > MAX_FRAME_PIXELS:
        raise VideoTooLargeError(
            f"{source}: frames of {width}x{height} are too large to decode",
            f"{width * height} pixels exceed the bound of {MAX_FRAME_PIXELS} for one frame",
            "re-encode the video at a smaller size; max_side only shrinks frames that are already decoded",
        )


def check_animation(source: str, size: int) -> None:
    """Refuse an animated picture of `size` bytes, all of which have to be in memory."""
    if size > MAX_PICTURE_BYTES:
        why = f"{size} bytes exceed the bound of {MAX_PICTURE_BYTES} for an animated WebP"
        raise VideoTooLargeError(f"{source} is too large to read", why, "convert it to mp4")


def check_work(source: str, pixels: int) -> None:
    """Refuse a file whose frames, kept or not, add up to more pixels than one pass may decode."""
    if pixels > MAX_DECODED_PIXELS:
        why = f"its frames add up to more than {MAX_DECODED_PIXELS} pixels"
        raise VideoTooLargeError(f"{source} is too long to decode", why, _SHORTER)


def most_read(size: int) -> int:
    """Bytes that all packets of a file of `size` bytes may have together."""
    # The constant leaves room for formats that rebuild headers around very small payloads.
    return MAX_READ_RATIO * size + 2**20


def check_walk(source: str, packets: int, read: int, size: int) -> None:
    """Refuse a file of `size` bytes after `packets` packets holding `read` bytes, if that is out of proportion."""
    if packets > MAX_PACKETS:
        raise VideoTooLargeError(f"{source} is too long to read", f"it has more than {MAX_PACKETS} packets", _SHORTER)
    if read > most_read(size):
        why = f"its index names more than {MAX_READ_RATIO} times the bytes it has"
        raise VideoTooLargeError(f"{source} is too long to read", why, "copy the video into a new file (remux it)")
