"""From a name to a clip, whatever the name is of."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from framefusion.core.errors import OptionError, VideoTooLargeError
from framefusion.core.options import Count, Rate, settle
from framefusion.inference.video import DEFAULT_MAX_PIXELS, Clip, load_clip
from framefusion.inference.video.limits import Resize
from framefusion.inference.video.source import checked_path, opened, reading

from .folder import read_folder
from .names import STDIN, is_address
from .still import still_of
from .temporary import STANDARD_INPUT, from_address, from_stdin


@dataclass(frozen=True)
class MediaOptions:
    """How media are read; of a picture all of it, whatever stands here.

    Args:
        frames: as for `load_clip`.
        fps: as for `load_clip`.
        frame_rate: pictures per second in a folder of frames.
        offline: fetch nothing from an address.

    Raises:
        OptionError: a number is outside its range.

    Example:
        >>> MediaOptions(frames=8).frames
        8
    """

    frames: Count | None = 64
    fps: Rate | None = None
    frame_rate: Rate = 1.0
    offline: bool = False

    def __post_init__(self) -> None:
        settle(self)


def load_media(name: str | os.PathLike[str], reading: MediaOptions | None = None, resize: Resize | None = None) -> Clip:
    """What `name` is of: a picture, a folder of frames, a GIF, an animated WebP, a video, an address of one, stdin.

    Args:
        name: a path, an http or https address, or "-" for standard input.
        reading: how; None for the defaults.
        resize: of videos, as for `load_clip`.

    Returns:
        A clip, `still` where it is a picture.

    Raises:
        VideoError: it cannot be read; the subclasses say why.
        OptionError: `name` is no name.

    Example:
        >>> load_media("clip.mp4", MediaOptions(frames=4)).still
        False
    """
    how = MediaOptions() if reading is None else reading
    text = name if isinstance(name, str) else None
    if text is not None and is_address(text):
        with from_address(text, how.offline) as path:
            return replace(_read(path, how, resize), source=text)
    if text == STDIN:
        with from_stdin() as path:
            return replace(_read(path, how, resize), source=STANDARD_INPUT)
    if _is_folder(name):
        return read_folder(os.fsdecode(name), how.frames, how.fps, how.frame_rate)
    return _read(checked_path(name), how, resize)


def load_all(
    names: Sequence[str | os.PathLike[str]], reading: MediaOptions | None = None, resize: Resize | None = None
) -> tuple[Clip, ...]:
    """Each of `names` as `load_media` gives it; all of them within the bound on pixels of one clip."""
    check_names(names)
    found: list[Clip] = []
    for name in names:
        found.append(load_media(name, reading, resize))
        pixels = sum(clip.frames.size // 3 for clip in found)
        if pixels > DEFAULT_MAX_PIXELS:
            why = f"with {found[-1].source} they have {pixels} pixels, more than {DEFAULT_MAX_PIXELS}"
            raise VideoTooLargeError("the media are too large to keep together", why, "ask about fewer of them")
    return tuple(found)


def check_names(names: Sequence[str | os.PathLike[str]]) -> None:
    """Raises what `load_media` would, as far as names tell without reading anything."""
    if list(names).count(STDIN) > 1:
        raise OptionError("standard input is named twice", "it can be read once", f"write {STDIN} once")
    for name in names:
        if not (isinstance(name, str) and (name == STDIN or is_address(name))) and not _is_folder(name):
            checked_path(name)


def _is_folder(name: Any) -> bool:
    try:
        return os.path.isdir(name)
    except (TypeError, ValueError):
        return False


def _read(path: str, how: MediaOptions, resize: Resize | None = None) -> Clip:
    """A file that is there."""
    with reading(path):
        picture = still_of(path)
    if picture is not None:
        return picture
    clip = load_clip(path, frames=how.frames, fps=how.fps, resize=resize)
    if clip.total_frames > 1:
        return clip
    with reading(path), opened(path) as source:
        return replace(clip, still=source.is_picture)
