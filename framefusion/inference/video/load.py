"""From a path to a Clip."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Annotated

from framefusion.core.errors import EmptyVideoError
from framefusion.core.options import Count, Interval, checked

from .animation import is_animation, read_animation
from .clip import Clip
from .decode import Decoded, decode
from .limits import DEFAULT_MAX_PIXELS, Bounds, Resize, check_work
from .sampling import check_amount, sample_times
from .seek import NotExact, seek
from .source import checked_path, opened, reading
from .stream_info import StreamInfo, read_stream_info

Pixels = Annotated[int, Interval(f"[1, {2**63 - 1}]")]


def load_clip(
    path: str | os.PathLike[str],
    *,
    frames: int | None = 64,
    fps: float | None = None,
    max_pixels: int = DEFAULT_MAX_PIXELS,
    max_side: int | None = None,
    resize: Resize | None = None,
) -> Clip:
    """Decode a sample of the frames of a video file.

    A file that breaks on the way gives the frames that could be decoded, and `damaged` says so.

    Args:
        path: of the file; addresses of a network are refused.
        frames: at most this many, evenly over the time of the clip, the first and the last included; None for no cap.
        fps: one frame every 1/fps seconds instead, `frames` evenly spaced ones when those are more.
        max_pixels: bound on T x height x width of what is kept.
        max_side: shrink frames whose longer side has more pixels than this, keeping their aspect ratio.
        resize: makes each frame smaller as it is decoded, so that full-size frames are never held together;
            `ProcessorResize.of(checkpoint)` does so as the model's processor would. Animations are not resized.

    Returns:
        The frames that were chosen, with their times.

    Raises:
        VideoError: the file cannot be read, or no frame of it can be decoded.
        VideoTooLargeError: the frames would have more than `max_pixels`; told before anything is decoded.
        OptionError: an argument is outside its range.
        MissingPackageError: PyAV is not installed.

    Example:
        >>> clip = load_clip("clip.mp4", frames=4)
        >>> clip.frames.shape, clip.total_frames
        ((4, 48, 64, 3), 8)
    """
    frames, fps = check_amount(frames, fps)
    bounds = Bounds(checked("max_pixels", Pixels, max_pixels), checked("max_side", Count | None, max_side))
    name = checked_path(path)
    with reading(name):
        if is_animation(name):
            return read_animation(name, frames, fps, bounds)
        for chosen in (replace(bounds, resize=resize), bounds) if resize is not None else (bounds,):
            info, sought = _sought(name, frames, fps, chosen)
            decoded = sought or _decode_exactly(name, info, frames, fps, chosen)
            # Of a damaged file fewer frames may be left than their size was made for.
            if len(decoded.kept) == decoded.wanted:
                break
        return _clip(name, info, decoded)


def _sought(
    name: str, frames: int | None, fps: float | None, bounds: Bounds, *, walk: bool = False
) -> tuple[StreamInfo, Decoded | None]:
    """What the file holds, and the frames where seeking finds them. walk: the index has been found to be wrong."""
    with opened(name) as source:
        info = read_stream_info(source, walk=walk)
        chosen = sample_times(info.times(info.stamps), frames, fps)
        bounds.check_kept(name, len(chosen), *info.shape)
        try:
            return info, seek(source, info, chosen, bounds)
        except NotExact:
            pass
    return _sought(name, frames, fps, bounds, walk=True) if info.indexed else (info, None)


def _decode_exactly(name: str, info: StreamInfo, frames: int | None, fps: float | None, bounds: Bounds) -> Decoded:
    """Decode until the kept frames are those one would choose knowing what the file really shows.

    One pass is enough when each packet shows one frame, as it does in nearly every file. Where the decoder drops or
    hides some, the next pass chooses from the frames the one before has seen.
    """
    decoded: Decoded | None = None
    planned = chosen = sample_times(info.times(info.stamps), frames, fps)
    check_work(name, len(info.stamps) * info.width * info.height)
    for thorough in (False, True, True):
        bounds.check_kept(name, len(chosen), *info.shape)
        decoded = None  # lets go of the frames of the pass before
        decoded = decode(name, chosen, bounds, thorough=thorough, picture=info.picture)
        chosen = sample_times(info.times(decoded.shown), frames, fps) or planned
        if chosen == decoded.kept and (thorough or not decoded.damaged):
            break
    assert decoded is not None
    return decoded


def _clip(name: str, info: StreamInfo, decoded: Decoded) -> Clip:
    if decoded.frames is None:
        raise _without_frame(name, len(info.stamps), decoded.trouble)
    times = info.times(decoded.shown)
    return Clip(
        frames=decoded.frames,
        timestamps=tuple(times[decoded.kept].tolist()),
        fps=info.fps(times),
        duration=info.duration(times),
        total_frames=len(times),
        source=name,
        indices=tuple(decoded.kept),
        damaged=info.damaged or decoded.damaged,
    )


def _without_frame(name: str, shown: int, trouble: str) -> EmptyVideoError:
    """shown: packets that hold a frame to be shown."""
    what = f"{name} holds no frame"
    if shown:
        why = f"none of its {shown} packets can be decoded" + (f": {trouble}" if trouble else "")
        return EmptyVideoError(what, why, "export or download it again")
    why = "none of its packets is to be shown: an edit list leaves them out, or they are there for reference only"
    hint = "take the frames in spite of an edit list with `ffmpeg -ignore_editlist 1 -i FILE`"
    return EmptyVideoError(f"{what} that is shown", why, hint)
