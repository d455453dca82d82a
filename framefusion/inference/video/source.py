"""An open video file: its packets and frames within bounds, and every failure as one of our errors."""

from __future__ import annotations

import math
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from typing import Any

from framefusion.core.errors import (
    BrokenVideoError,
    FrameFusionError,
    NoVideoStreamError,
    OptionError,
    VideoError,
    VideoNotFoundError,
    VideoTooLargeError,
)

from . import limits
from .bombs import check_unpacked
from .reader import Endless, Reader, format_of

_LATE = ("h264",)
"""Decoders that learn of damage to a frame after they gave it out."""

_ENDLESS = ("mpegts", "mpeg", "h264")
"""Formats that do not say how long they are, so that only the decoder notices where a copy was cut off."""

_HINT = "check that the file plays elsewhere, or convert it to mp4"


def checked_path(path: Any) -> str:
    """`path` as a string that names a regular file, or the error that says why not."""
    try:
        name = os.fsdecode(path)
    except TypeError:
        raise OptionError(f"path={path!r} is not valid", "path is a string or a path object") from None
    try:
        status = os.stat(name)
    except (FileNotFoundError, NotADirectoryError, ValueError):
        raise VideoNotFoundError(f"{name!r} cannot be read", "there is no such file", "check the path") from None
    except OSError as error:
        hint = "check the path, and where links on it lead"
        raise BrokenVideoError(f"{name!r} cannot be read", error.strerror or str(error), hint) from None
    kind = "empty" if status.st_size == 0 else ""
    if not stat.S_ISREG(status.st_mode):
        kind = "a directory" if stat.S_ISDIR(status.st_mode) else "not a regular file"
    if kind:
        raise BrokenVideoError(f"{name!r} cannot be read", f"it is {kind}", "give the path of one video file")
    return name


@contextmanager
def reading(name: str) -> Iterator[None]:
    """Turn what PyAV, the file system and numpy raise inside into this package's errors."""
    try:
        yield
    except FrameFusionError:
        raise
    except MemoryError:
        hint = "ask for fewer frames (frames=...) or smaller ones (max_side=...)"
        raise VideoTooLargeError(
            f"{name} cannot be read", "there is not enough memory for what it asks", hint
        ) from None
    except (pyav().error.FFmpegError, OSError, ValueError, RuntimeError, LookupError) as error:
        raise BrokenVideoError(f"{name} cannot be read as a video", reason(error), _HINT) from None


def pyav() -> Any:
    """The module `av`, loaded when the first file is opened."""
    try:
        import av
    except ImportError as error:
        raise VideoError("video files need PyAV", str(error), "pip install av") from None
    return av


def reason(error: BaseException) -> str:
    """The short text of an error of PyAV or the system."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


@contextmanager
def opened(name: str, *, parsed: bool = True, endless: bool = False) -> Iterator[Source]:
    """The file as a `Source`, closed at the end. parsed: look into the packets, and not only at what is around them.

    endless: see `Source`.
    """
    # A file object and a list of protocols that lacks "file" keep playlists from opening other files or addresses.
    options = {"protocol_whitelist": "pipe", "max_pixels": str(limits.MAX_FRAME_PIXELS)}
    options |= {} if parsed else {"fflags": "noparse"}
    more: dict[str, Any] = {"options": options, "metadata_errors": "replace", "buffer_size": 2**20}
    with open(name, "rb") as file:
        check_unpacked(name, file)
        with pyav().open(reader := Reader(file), "r", format_of(file), **more) as container:
            yield Source(name, container, reader, endless)


class Source:
    """The video stream of an open file.

    damaged, trouble: whether something could not be read or decoded so far, and the last reason.
    pixel: width of a pixel over its height. is_picture: it is no video, but a picture file. endless: its frames are
    looked at one by one, so there may be any number.
    """

    def __init__(self, name: str, container: Any, reader: Reader | Endless, endless: bool = False) -> None:
        self.name, self.container, self.size, self.endless = name, container, reader.size, endless
        self._reader = reader
        self.damaged, self.trouble = reader.cut, ""
        self._ends: dict[int, int] = {}
        self.stream = _video_stream(name, container)
        self.codec = self.stream.codec_context
        if self.codec is None:
            raise BrokenVideoError(f"{name} cannot be read as a video", "no decoder knows its format", _HINT)
        limits.check_frame(name, self.codec.width, self.codec.height)
        self._largest = limits.BYTES_PER_PIXEL * self.codec.width * self.codec.height + 2**20
        reader.enough += self._largest
        # The decoder itself refuses larger frames, before it takes the memory for them.
        self.codec.options = {"max_pixels": str(limits.MAX_FRAME_PIXELS)}
        # Each thread holds frames of its own.
        self.codec.thread_count = min(4, os.cpu_count() or 1)
        # Viewers show pictures pixel by pixel, whatever density they name.
        self.is_picture = container.format.name == "image2" or container.format.name.endswith("_pipe")
        self.pixel: Fraction = (None if self.is_picture else self.stream.sample_aspect_ratio) or Fraction(1)

    @property
    def end(self) -> float:
        """Seconds at which the last packet read so far ends, over all streams."""
        bases = [stream.time_base or 0 for stream in self.container.streams]
        return max((float(end * bases[stream]) for stream, end in self._ends.items()), default=0.0)

    def packets(self) -> Iterator[Any]:
        """Packets of the video stream in file order."""
        count = read = 0
        ends, video, largest, reader = self._ends, self.stream.index, self._largest, self._reader
        most, enough = (math.inf, math.inf) if self.endless else (limits.MAX_PACKETS, limits.most_read(self.size))
        try:
            for packet in self.container.demux():
                count, size = count + 1, packet.size
                if size <= largest:
                    reader.barren = 0
                read += size
                if count > most or read > enough:
                    limits.check_walk(self.name, count, read, self.size)
                pts, stream = packet.pts, packet.stream_index
                if pts is not None:
                    end = pts + (packet.duration or 0)
                    if stream not in ends or end > ends[stream]:
                        ends[stream] = end
                if size and stream == video:
                    yield packet
        except MemoryError:
            raise
        except IndexError:
            # PyAV stumbles after the last packet when a stream has appeared on the way, as in broadcast recordings.
            return
        except pyav().error.FFmpegError as error:
            self.damaged, self.trouble = True, reason(error)
        if reader.given_up:
            self.damaged, self.trouble = True, "much of it holds nothing"

    def adopt(self, other: Source) -> None:
        """Take what was met while walking over `other`, the same file, for met here."""
        self.damaged, self.trouble, self._ends = other.damaged, other.trouble, other._ends

    def seek(self, time: int) -> None:
        """Go to the last key frame at or before `time`, in the stream's unit, as far as the container can tell."""
        self._reader.barren = 0
        self.container.seek(time, stream=self.stream)

    @property
    def told_by_decoder(self) -> bool:
        """Whether nothing but the decoder tells damage, and one that does so by chance with a thread for each frame."""
        return self.container.format.name in _ENDLESS and self.codec.name in _LATE

    def be_strict(self) -> None:
        """Have the decoder refuse damaged packets, where it would else say so by chance.

        With a thread for each frame, FFmpeg may give an H.264 frame out before it is known that a part was missing.
        """
        if self.codec.name in _LATE:
            self.codec.options = {**self.codec.options, "err_detect": "explode"}

    def frames(self, threads: str) -> Iterator[Any]:
        """Decoded frames in the order they are shown; parts that cannot be decoded are passed over.

        threads: PyAV's thread type. "AUTO" is faster, "SLICE" loses fewer frames around damage.
        """
        self.codec.thread_type = threads
        pixels = 0
        for packet in self.packets():
            for frame in self.decoded(packet):
                pixels += frame.width * frame.height
                if not self.endless:
                    limits.check_work(self.name, pixels)
                yield frame
        yield from self.decoded(None)

    def decoded(self, packet: Any) -> list[Any]:
        """Frames that come out of the decoder when `packet` goes in; None asks for the last ones."""
        try:
            frames = self.codec.decode(packet)
        except MemoryError:
            raise
        except pyav().error.FFmpegError as error:
            # A stream may change its size on the way; the codec then already knows the size it refused.
            limits.check_frame(self.name, self.codec.width, self.codec.height)
            self.damaged, self.trouble = True, reason(error)
            return []
        for frame in frames:
            limits.check_frame(self.name, frame.width, frame.height)
            self.damaged = self.damaged or frame.is_corrupt
        return frames


def _video_stream(name: str, container: Any) -> Any:
    cover = pyav().stream.Disposition.attached_pic
    moving = [stream for stream in container.streams.video if not stream.disposition & cover]
    if not moving:
        kinds = ", ".join(sorted({stream.type for stream in container.streams})) or "nothing"
        raise NoVideoStreamError(f"{name} has no video stream", f"it holds {kinds}", "give a file with moving pictures")
    best = container.streams.best("video")
    return best if best in moving else moving[0]
