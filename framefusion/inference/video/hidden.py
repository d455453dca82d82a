"""Packets of VP8 and VP9 that the decoder reads and never shows."""

from __future__ import annotations

from typing import Any

_VP8_SHOWN = 0x10
_VP9_PROFILE_3 = 0x30
_VP9_SHOWN_AGAIN, _VP9_SHOWN = 0x08, 0x02
_VP9_SUPERFRAME = 0xC0


CODECS = ("vp8", "vp9", "libvpx", "libvpx-vp9")


def shows_nothing(codec: str, packet: Any) -> bool:
    """codec: one of `CODECS`. Whether the header of the coded frame says that it is only for reference."""
    first, last = memoryview(packet)[0], memoryview(packet)[-1]
    if codec in ("vp8", "libvpx"):
        return not first & _VP8_SHOWN
    if last & 0xE0 == _VP9_SUPERFRAME or first & _VP9_PROFILE_3 == _VP9_PROFILE_3:
        return False
    return not first & (_VP9_SHOWN_AGAIN | _VP9_SHOWN)
