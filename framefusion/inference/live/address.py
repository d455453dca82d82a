"""A network stream or a camera, through FFmpeg, connected to anew when the connection is lost."""

from __future__ import annotations

import re
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from framefusion.core.errors import BrokenVideoError, FrameFusionError
from framefusion.inference.video import limits
from framefusion.inference.video.source import pyav, reading, reason

from .decoding import frames_of, live_source
from .items import Joint, Notice, Raw, Shown
from .waits import Since, Waits

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
DEVICES = ("alsa", "avfoundation", "decklink", "dshow", "fbdev", "gdigrab", "kmsgrab", "lavfi", "v4l2", "x11grab")
"""FFmpeg's formats that are devices, which stand before a colon."""
CAMERA = "v4l2"
PROTOCOLS = (
    "crypto,ftp,hls,http,httpproxy,https,icecast,mmsh,mmst,rist,rtmp,rtmpe,rtmps,rtmpt,rtmpte,rtmpts,rtp,rtsp,rtsps,sctp,"
    "srt,srtp,tcp,tls,udp,udplite,unix"
)
"""What an address may lead to. Files are not among them, so that no playlist from outside can name one of ours."""
SECRET = re.compile(r"(?<=://)[^/@\s]*@")
_FIRST_WAIT, _LONGEST_WAIT = 0.25, 5.0
_OPEN_SECONDS = 10.0
_REFUSED = ("ConnectionRefusedError", "TimeoutError", "ExitError", "BlockingIOError")


def is_address(name: str) -> bool:
    """Whether `name` is for FFmpeg to open: `scheme://…`, `FORMAT:device`, or a camera's device file."""
    if _SCHEME.match(name):
        return not name.lower().startswith("file://")
    return device_of(name) is not None


def device_of(name: str) -> tuple[str, str] | None:
    """Format and name of a device, None for anything else."""
    form, colon, rest = name.partition(":")
    if colon and form.lower() in DEVICES and not Path(name).exists():
        return form.lower(), rest
    try:
        return (CAMERA, name) if stat.S_ISCHR(Path(name).stat().st_mode) else None
    except (OSError, ValueError):
        return None


def without_secret(name: str) -> str:
    """An address as it may be shown: without user and password."""
    return SECRET.sub("", name)


def frames_of_address(name: str, waits: Waits, ready: Callable[[], None]) -> Iterator[Raw]:
    """Frames of an address, over any number of connections. Raises VideoError where there never was one.

    An address that says how long it is ends there; of any other one the end is a connection that was lost, until none
    has been made for as long as `waits` say.
    """
    shown, since = without_secret(name), Since()
    connections = 0
    while True:
        container = _connected(name, waits, since, first=not connections)
        if container is None:
            return
        with container, reading(shown):
            connections += 1
            if connections > 1:
                yield Notice("back", f"{shown} is back after {since.seconds:.1f} s")
                yield Joint(since.seconds)
            source = live_source(shown, container)
            ready()
            for item in frames_of(source, live=True):
                if isinstance(item, Shown):
                    since.came()
                yield item
            if container.duration or waits.stop.is_set() or device_of(name):
                return
        yield Notice("cut", f"the connection to {shown} was lost")


def _connected(name: str, waits: Waits, since: Since, first: bool) -> Any:
    """An open container; None where it was given up or is not wanted any more. Raises VideoError for the first one."""
    wait, shown = _FIRST_WAIT, without_secret(name)
    while True:
        try:
            with reading(shown):
                return _open(name, waits)
        except FrameFusionError as error:
            cause = error.__context__
            hopeless = first and type(cause).__name__ not in _REFUSED
            enough = waits.patience if first else waits.give_up
            if hopeless or (first and since.seconds >= enough):
                why = reason(cause) if cause is not None else error.why
                hint = "check the address, and that `ffprobe` opens it"
                raise BrokenVideoError(f"{shown} cannot be opened", why, hint) from None
            if since.seconds >= enough or not waits.sleep(wait):
                return None
            wait = min(2 * wait, _LONGEST_WAIT)


def _open(name: str, waits: Waits) -> Any:
    device = device_of(name)
    form, place = device if device is not None else (None, name)
    options = {"max_pixels": str(limits.MAX_FRAME_PIXELS)}
    if device is None:
        options["protocol_whitelist"] = PROTOCOLS
        if name.lower().startswith("rtsp"):
            options["rtsp_flags"] = "prefer_tcp"
    timeout = (min(_OPEN_SECONDS, waits.give_up), waits.give_up)
    return pyav().open(place, "r", form, options=options, metadata_errors="replace", timeout=timeout)
