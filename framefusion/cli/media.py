"""The media and the question on a command line, and how the media are read."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from framefusion.cli.console import note, working_on
from framefusion.core.errors import OptionError

if TYPE_CHECKING:
    from framefusion.inference.media import MediaOptions
    from framefusion.inference.video import Clip
    from framefusion.inference.video.limits import Resize

ABOUT = "Pictures, videos, a folder of frames, http(s) addresses, or - for standard input"
FrameRateOption = Annotated[float, typer.Option(help="Pictures per second in a folder of frames.")]
OfflineOption = Annotated[bool, typer.Option("--offline", help="Fetch no media and no model from the network.")]
OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")


def reading_of(frames: int, fps: float | None, frame_rate: float, offline: bool) -> MediaOptions:
    """Raises OptionError. offline: told to the hub's library as well, which reads it when it is loaded."""
    from framefusion.inference.media import MediaOptions

    found = MediaOptions(frames, fps, frame_rate, offline)
    if offline:
        os.environ |= dict.fromkeys(OFFLINE, "1")
    return found


def media_and_question(words: Sequence[str], default: str | None = None) -> tuple[list[str], str]:
    """The last word is the question; with a `default` it may be left out. Raises OptionError."""
    from framefusion.inference.media.names import is_something

    *media, last = words
    if default is not None and (not media or is_something(last)):
        return [*media, last], default
    if not media or is_something(last):
        raise OptionError(
            "a question is missing" if is_something(last) or not media else f"`{last}` is no question",
            f"`{last}` stands where the question does" if media else f"`{last}` is the only word",
            'write it after the media, in quotes: clip.mp4 "What happens?"',
        )
    return media, last


def read_media(names: Sequence[str], reading: MediaOptions, resize: Resize | None = None) -> tuple[Clip, ...]:
    """All of `names`, with a note for what is damaged. resize: as for `load_clip`. Raises VideoError, OptionError."""
    from framefusion.inference.media import load_all

    with working_on("reading " + ("the media" if len(names) > 1 else names[0])):
        found = load_all(names, reading, resize)
    for clip in found:
        tell_damage(clip)
    return found


def tell_damage(clip: Clip) -> None:
    if clip.damaged:
        note(f"{clip.source} is damaged; {len(clip.frames)} frames could be read")


def described(clip: Clip) -> dict[str, Any]:
    """What was read, for `--json`."""
    height, width = clip.frames.shape[1:3]
    about: dict[str, Any] = {"path": clip.source, "kind": "picture" if clip.still else "video"}
    about |= {"width": width, "height": height, "frames": len(clip.frames)}
    if clip.still:
        return about
    return about | {"total_frames": clip.total_frames, "duration_s": clip.duration, "damaged": clip.damaged}
