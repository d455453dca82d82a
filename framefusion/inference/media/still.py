"""Single pictures, as `PIL.Image.open` gives them and processors of transformers expect them: RGB, upright, whole."""

from __future__ import annotations

import io
import mmap
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from framefusion.core.errors import FrameFusionError, PictureError, VideoTooLargeError
from framefusion.inference.video import Clip, limits
from framefusion.inference.video.bombs import check_unpacked

FORMATS = ("AVIF", "BMP", "DIB", "GIF", "JPEG", "JPEG2000", "MPO", "PNG", "PPM", "TIFF", "WEBP")
"""What is read by Pillow; the first page of TIFF, the first picture of MPO."""

ENDINGS = (".avif", ".bmp", ".gif", ".jp2", ".jpeg", ".jpg", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp")
"""Of frames in a folder."""

_MOVING = ("AVIF", "GIF", "PNG", "WEBP")
_DNG = 0xC612
_HEIC = {b"heic", b"heix", b"heim", b"heis", b"mif1"}
_STARTS: tuple[bytes, ...] = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"BM", b"II*\0", b"MM\0*", b"\xff\x4f\xff\x51")
_STARTS += tuple(b"P%d" % number for number in range(1, 7))
_HEAD = 256
_NEXT_JPEG = b"\xff\xd9\xff\xd8"
_SIXTEEN = ("I;16", "I;16B", "I;16L", "I;16N")
MOST_READS = 5_000_000
"""Of one file; a GIF of the largest size takes fewer."""
_HINT = "check that it can be seen elsewhere, or convert it to PNG"


def still_of(name: str) -> Clip | None:
    """A file that is one picture, as `read_still` gives it; None for any other file.

    Raises what `read_still` does, and PictureError for HEIC, which nothing here reads.
    """
    with open(name, "rb") as file:
        head = file.read(_HEAD)
    if _is_heic(head):
        why = "pictures of HEIC need a decoder that Pillow lacks, and FFmpeg gives a tile of them"
        raise PictureError(f"{name} cannot be read", why, "convert it to JPEG or PNG")
    if not _has_decoder(head):
        return None
    if head.startswith(_STARTS[0]) and os.path.getsize(name) > limits.MAX_PICTURE_BYTES:
        return None  # no JPEG, but perhaps a stream of them
    with _opened(name) as picture:
        return _clip(name, picture) if _is_one(name, picture) else None


def read_still(name: str) -> Clip:
    """The picture as a clip of one frame that is `still`; of a file with several, the first.

    Raises:
        PictureError: a file that is cut off, damaged, or has values without a known range.
        VideoTooLargeError: more pixels than one frame may have, told from its header.
    """
    with _opened(name) as picture:
        if picture is None:
            raise PictureError(f"{name} cannot be read as a picture", "no format is recognised", _HINT)
        return _clip(name, picture)


def _is_one(name: str, picture: Any) -> bool:
    """Whether a file is neither an animation, nor a raw photograph, nor a stream of pictures."""
    if picture is None or (picture.format in _MOVING and getattr(picture, "is_animated", False)):
        return False
    if picture.format == "TIFF" and _DNG in picture.getexif():
        return False
    return picture.format != "JPEG" or not _holds(name, _NEXT_JPEG)


def _clip(name: str, picture: Any) -> Clip:
    _check_bytes(name)
    return still(np.ascontiguousarray(upright(name, picture)), name)


def still(pixels: np.ndarray, source: str) -> Clip:
    """pixels: (height, width, 3) uint8 RGB."""
    return Clip(pixels[None], (0.0,), 1.0, 0.0, 1, source, (0,), still=True)


def size_of(name: str) -> tuple[int, int]:
    """(width, height) as it is stored, from the header."""
    with _opened(name) as picture:
        return (0, 0) if picture is None else picture.size


def _has_decoder(head: bytes) -> bool:
    """Whether a file may be a picture; videos do not pass through Pillow."""
    return head.startswith(_STARTS) or head[4:8] == b"jP  " or _read_whole(head)


def _read_whole(head: bytes) -> bool:
    """Whether Pillow reads all of a file when it opens it."""
    return (head[:4] == b"RIFF" and head[8:12] == b"WEBP") or bool(_brands(head) & {b"avif", b"avis"})


def _is_heic(head: bytes) -> bool:
    brands = _brands(head)
    return bool(brands & _HEIC) and not brands & {b"avif", b"avis"}


def _brands(head: bytes) -> set[bytes]:
    """What an ISO media file says it is: MP4, AVIF, HEIC and others."""
    if head[4:8] != b"ftyp":
        return set()
    end = min(int.from_bytes(head[:4], "big"), len(head))
    return {head[8:12], *(head[start : start + 4] for start in range(16, end - 3, 4))}


class _Counted(io.BufferedReader):
    """A file that does not let itself be read for minutes: Pillow looks for the next part of a JPEG byte by byte."""

    reads = 0

    def read(self, size: int | None = -1, /) -> bytes:
        self.reads += 1
        if self.reads > MOST_READS:
            raise OSError("nothing of a picture follows its beginning")
        return super().read(size)


@contextmanager
def _opened(name: str) -> Iterator[Any]:
    """The picture with nothing but its header read, None for a file of no known format."""
    from PIL import Image, UnidentifiedImageError

    _check_header(name)
    Image.init()
    try:
        # Opened here: Pillow (13.0) maps files that it opens itself, and scrambles some turned TIFF pictures then.
        with _Counted(io.FileIO(name)) as file:
            with warnings.catch_warnings():
                # Our own bound on pixels is below; of odd tags there may be thousands.
                warnings.simplefilter("ignore")
                picture = Image.open(file, formats=[kind for kind in FORMATS if kind in Image.OPEN])
            limits.check_frame(name, *picture.size)
            yield picture
    except FrameFusionError:
        raise
    except UnidentifiedImageError:
        yield None
    except Image.DecompressionBombError:
        why = f"it has more than the {limits.MAX_FRAME_PIXELS} pixels that are read"
        raise VideoTooLargeError(f"{name} is too large to decode", why, "scale it down") from None
    except MemoryError:
        why = "there is not enough memory for it"
        raise VideoTooLargeError(f"{name} cannot be read", why, "scale it down") from None
    except Exception as error:  # plugins of Pillow raise what they like
        raise PictureError(f"{name} cannot be read as a picture", str(error) or type(error).__name__, _HINT) from None


def _check_header(name: str) -> None:
    """Bounds on what Pillow takes into memory before it tells a size: whole files, and the canvas of a WebP."""
    with open(name, "rb") as file:
        check_unpacked(name, file)  # Pillow 12 reads the values of all tags when it opens a file
        head = file.read(_HEAD)
    if _read_whole(head):
        _check_bytes(name)
    if head[:4] == b"RIFF" and head[8:16] == b"WEBPVP8X":
        width, height = (1 + int.from_bytes(head[start : start + 3], "little") for start in (24, 27))
        limits.check_frame(name, width, height)


def _check_bytes(name: str) -> None:
    size = os.stat(name).st_size
    if size > limits.MAX_PICTURE_BYTES:
        why = f"{size} bytes exceed the bound of {limits.MAX_PICTURE_BYTES} for a picture"
        raise VideoTooLargeError(f"{name} is too large to read", why, "scale it down")


def _holds(name: str, mark: bytes) -> bool:
    """Whether a file holds `mark`: a picture of JPEG right behind another is a stream of them."""
    with open(name, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return data.find(mark) >= 0


def upright(name: str, picture: Any) -> np.ndarray:
    """(height, width, 3) uint8 of a PIL image, turned as its EXIF data say; what is transparent lies on white."""
    from PIL import Image, ImageOps

    picture.load()
    limits.check_frame(name, *picture.size)
    turned = ImageOps.exif_transpose(picture)
    if turned.mode in (*_SIXTEEN, "I"):
        values = np.asarray(turned)
        if values.min() < 0 or values.max() >= 2**16:
            raise PictureError(f"{name} cannot be read", "its values have no known range", "convert it to 8 bits")
        return np.repeat((values >> 8).astype(np.uint8)[..., None], 3, axis=2)
    if turned.mode == "F":
        raise PictureError(f"{name} cannot be read", "its values have no known range", "convert it to 8 bits")
    if turned.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in turned.info:
        turned = turned.convert("RGBA")
        turned = Image.alpha_composite(Image.new("RGBA", turned.size, "white"), turned)
    return np.asarray(turned.convert("RGB"))
