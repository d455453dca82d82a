"""The shape and the side in which players show a decoded frame."""

from __future__ import annotations

import io
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np

from framefusion.core.errors import BrokenVideoError

from . import limits
from .source import pyav

STRAIGHT = 0.02
"""Tangent of the angle, about one degree, up to which a turned frame counts as straight."""

MAX_STRETCH = 16
"""Pixels more than this many times as wide as high, or as high as wide, are a mistake in the file."""

_EXIF_ORIENTATION = 0x0112
_DNG = 0xC612
_JPEG = ("jpeg", "tiff_jpeg")
_PICTURE_CODECS = ("mjpeg", "png", "apng", "webp", "tiff")


class Orientation(NamedTuple):
    """What sets a frame upright, in this order: rows for columns, left for right, top for bottom."""

    transposed: bool = False
    mirrored: bool = False
    flipped: bool = False


_EXIF = {
    2: Orientation(mirrored=True),
    3: Orientation(mirrored=True, flipped=True),
    4: Orientation(flipped=True),
    5: Orientation(transposed=True),
    6: Orientation(transposed=True, mirrored=True),
    7: Orientation(transposed=True, mirrored=True, flipped=True),
    8: Orientation(transposed=True, flipped=True),
}


def stretched(width: int, height: int, pixel: Fraction) -> tuple[int, int]:
    """(width, height) in square pixels of a frame whose pixels are `pixel` times as wide as high."""
    if pixel == 1 or not Fraction(1, MAX_STRETCH) <= pixel <= MAX_STRETCH:
        return width, height
    return max(1, round(width * pixel)), height


def orientation(frame: Any, picture: Orientation | None = None) -> Orientation:
    """From the display matrix that containers, codecs and pictures carry; angles but quarter turns are left alone.

    picture: what EXIF says, which holds then: PyAV cannot give a matrix beside it.
    """
    if picture is not None:
        return picture
    matrix = _display_matrix(frame)
    if matrix is None:
        return _turned(frame.rotation)
    (a, b), (c, d) = matrix[0, :2], matrix[1, :2]
    if abs(b) <= STRAIGHT * abs(a) and abs(c) <= STRAIGHT * abs(d):
        return Orientation(False, bool(a < 0), bool(d < 0))
    if abs(a) <= STRAIGHT * abs(b) and abs(d) <= STRAIGHT * abs(c):
        return Orientation(True, bool(c < 0), bool(b < 0))
    return Orientation()


def exif_orientation(name: str, codec: str, packet: Any) -> Orientation | None:
    """What the EXIF data of a coded picture say, None where there are none or `codec` makes no picture files.

    Side data of a frame that has EXIF and a profile of colours are not to be asked for: PyAV (18.1) crashes.

    Pictures that FFmpeg shows wrongly, or too large ones, for which it has no reason, are refused here.
    """
    if codec not in _PICTURE_CODECS:
        return None
    from PIL import Image

    try:
        # Packets of an APNG file lack what stands in front of its frames.
        with Image.open(name if codec == "apng" else io.BytesIO(bytes(packet))) as picture:
            limits.check_frame(name, *picture.size)
            if codec == "tiff" and _DNG not in picture.getexif() and picture.info.get("compression") in _JPEG:
                why = "it is a TIFF picture of JPEG data, which FFmpeg shows black"
                raise BrokenVideoError(f"{name} cannot be read", why, "convert it to PNG")
            exif = picture.getexif()
            there = len(exif) > 0 or "exif" in picture.info
            return _EXIF.get(exif.get(_EXIF_ORIENTATION, 1), Orientation()) if there else None
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None


def set_upright(picture: np.ndarray, turned: Orientation) -> np.ndarray:
    """picture: (height, width, 3), as it was decoded."""
    picture = picture.transpose(1, 0, 2) if turned.transposed else picture
    return picture[:: -1 if turned.flipped else 1, :: -1 if turned.mirrored else 1]


def _display_matrix(frame: Any) -> np.ndarray | None:
    """(3, 3) float64, or None where there is none to be had."""
    kind = pyav().sidedata.sidedata.Type.DISPLAYMATRIX
    try:
        return np.frombuffer(bytes(frame.side_data[kind]), np.int32)[:9].reshape(3, 3).astype(np.float64)
    except (KeyError, ValueError):
        # PyAV knows no name for some of FFmpeg's side data, EXIF among them, and then gives none at all.
        return None


def _turned(degrees: float) -> Orientation:
    """Counter-clockwise quarter turns; other angles are left alone."""
    turns = round(degrees / 90)
    if abs(degrees - 90 * turns) > 1:
        return Orientation()
    return (Orientation(), _EXIF[8], _EXIF[3], _EXIF[6])[turns % 4]
