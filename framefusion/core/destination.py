"""Where results go: what may be written is asked before any work, and a file is written whole or not at all."""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import BinaryIO

from framefusion.core.errors import FrameFusionError, OptionError

MARK = "written by framefusion"
"""Stands in every page and picture of the commands, so that they replace their own files only."""
# How much of either end of a file is searched for the mark, and written to see whether a disk has room.
ENDS = PROBE = 2**16
FLAGS = sum(getattr(os, name, 0) for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC", "O_BINARY"))
KINDS = (
    (stat.S_ISLNK, "it is a link"),
    (stat.S_ISDIR, "it is a folder"),
    (stat.S_ISFIFO, "it is a named pipe"),
    (stat.S_ISSOCK, "it is a socket"),
    (lambda mode: not stat.S_ISREG(mode), "it is a device"),
)


def cache_folder() -> Path:
    """This package's folder in the user's cache folder."""
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (base if base.is_absolute() else Path.home() / ".cache") / "framefusion"


def check_file(
    path: Path,
    option: str,
    *,
    ours: Callable[[Path], bool] | None = None,
    not_these: Iterable[str | Path] = (),
    parents: bool = False,
    error: type[FrameFusionError] = OptionError,
) -> None:
    """Raises `error` where a result cannot be put at `path`; nothing is changed by asking.

    option: names the place in the hint. ours: whether a file that is there and not empty may be replaced or added to;
    None leaves that to the caller. not_these: what is read, and must not be written to. parents: missing folders will
    be made.
    """
    why = _against(path, parents)
    if not why and any(_same(path, other) for other in not_these):
        why = "it is read by the same command"
    try:
        if not why and ours is not None and path.exists() and path.stat().st_size and not ours(path):
            why = "it holds something that this command did not write"
    except OSError as problem:
        why = reason(problem)
    if why:
        raise error(f"cannot write {path}", why, f"give {option} a new file, or one of an earlier run")


def check_folder(path: Path, option: str, error: type[FrameFusionError] = OptionError) -> None:
    """Raises `error` where `path` is no folder that files can be put into, and cannot become one."""
    try:
        why = _misnamed(path) or _against_folder(path, parents=True)
    except OSError as problem:
        why = reason(problem)
    if why:
        raise error(f"cannot write into {path}", why, f"give {option} a folder you may write into")


def check_apart(places: Mapping[str, Path | None]) -> None:
    """Raises OptionError where two options, by their names, lead to one file."""
    known: dict[str, str] = {}
    for option, path in places.items():
        if path is None:
            continue
        other = known.setdefault(os.path.realpath(path), option)
        if other != option:
            raise OptionError(f"{other} and {option} are both {path}", hint="each result has a file of its own")


def is_marked(path: Path) -> bool:
    """Whether a command of this package wrote the page or picture."""
    with path.open("rb") as file:
        head = file.read(ENDS)
        file.seek(max(0, os.fstat(file.fileno()).st_size - ENDS))
        return MARK.encode() in head or MARK.encode() in file.read(ENDS)


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file that takes the place of `path` at the end of the block, and only if the block ends well. Raises OSError.

    It is made under a name nobody can foresee, never through a link, and is on disk before it gets its name.
    """
    descriptor, beside = _temporary(path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            if hasattr(os, "fchmod"):
                with suppress(OSError):
                    os.fchmod(file.fileno(), stat.S_IMODE(os.lstat(path).st_mode))
            os.fsync(file.fileno())
        kind = _kind(path)
        if kind:
            raise OSError(None, kind)
        os.replace(beside, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(beside)
        raise


def put(path: Path, data: bytes, error: type[FrameFusionError] = OptionError) -> None:
    """`data` in the place of the file. Raises `error`; what stood there is then as it was."""
    try:
        with replacing(path) as file:
            file.write(data)
    except OSError as problem:
        raise error(f"cannot write {path}", reason(problem), "what stood there is as it was") from problem


def put_new(path: Path, data: bytes) -> Path:
    """`data` in a new file: `path`, or where that is taken the first free of path.1, path.2, … Raises OSError."""
    for number in count():
        place = path if not number else path.with_name(f"{path.name}.{number}")
        try:
            descriptor = os.open(place, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND | FLAGS, 0o666)
        except FileExistsError:
            continue
        try:
            append(descriptor, data)
        finally:
            os.close(descriptor)
        return place
    raise AssertionError


def open_to_append(path: Path) -> int:
    """A descriptor of a regular file, made where it is missing; never of what a link points to. Raises OSError."""
    kind = _kind(path)
    if kind:
        raise OSError(None, kind)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | FLAGS, 0o666)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(None, "it is not a regular file")
    return descriptor


def append(descriptor: int, data: bytes) -> None:
    """All of `data` at the end of an open file and on disk, or nothing of it. Raises OSError."""
    done = 0
    try:
        while done < len(data):
            done += os.write(descriptor, data[done:])
        os.fsync(descriptor)
    except BaseException:
        # Half a line would swallow the next one. Another process may have added to the file; then it stays.
        end = os.lseek(descriptor, 0, os.SEEK_CUR)
        if done and os.fstat(descriptor).st_size == end:
            os.ftruncate(descriptor, end - done)
        raise


def _against(path: Path, parents: bool) -> str:
    """Why no file can be put at `path`, "" if one can."""
    try:
        why = _misnamed(path) or _kind(path)
        if why:
            return why
        if path.exists() and not (path.stat().st_mode & 0o222 and os.access(path, os.W_OK)):
            return "it is read-only"
        return _against_folder(path.parent, parents)
    except OSError as problem:
        return reason(problem)


def _misnamed(path: Path) -> str:
    try:
        return "there is a zero byte in its name" if b"\0" in str(path).encode() else ""
    except UnicodeEncodeError:
        return "its name is no UTF-8"


def _kind(path: Path) -> str:
    """What stands at `path` if it is neither a regular file nor nothing. Raises OSError."""
    if not _stands(path):
        return ""
    mode = os.lstat(path).st_mode
    return next((name for is_so, name in KINDS if is_so(mode)), "")


def _against_folder(folder: Path, parents: bool) -> str:
    """Why no file can be made in `folder`. Raises OSError."""
    place = folder.absolute()
    while parents and not _stands(place) and place != place.parent:
        place = place.parent
    if not place.is_dir():
        return f"there is no folder {folder}"
    descriptor, name = _temporary(place)
    try:
        # On a full disk an empty file can often be made.
        append(descriptor, secrets.token_bytes(PROBE))
    finally:
        os.close(descriptor)
        os.unlink(name)
    return ""


def _stands(path: Path) -> bool:
    """Whether there is anything of that name. Raises OSError for a name that nothing can have."""
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def _temporary(folder: Path) -> tuple[int, str]:
    """A new file of a random name. Raises OSError."""
    name = os.path.join(folder, f".framefusion-{secrets.token_hex(8)}.new")
    return os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | FLAGS, 0o666), name


def _same(path: Path, other: str | Path) -> bool:
    try:
        return os.path.samefile(path, other)
    except (OSError, ValueError):
        return False


def reason(problem: OSError) -> str:
    """What the operating system says."""
    return problem.strerror or str(problem)
