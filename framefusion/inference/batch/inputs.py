"""From words on the command line to media: files, folders of frames and addresses."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator

from framefusion.core.errors import OptionError
from framefusion.inference.media import STDIN, is_address
from framefusion.inference.media.folder import frames_in

ANY_FOLDERS = "**"


def find_videos(patterns: Iterable[str]) -> list[str]:
    """Absolute paths of files and of what patterns such as `videos/**/*.mp4` match; addresses as they are.

    The names a pattern matches are sorted. Links are followed, also in circles: a file that is found under several
    names is named once, by the name without links where there is one. A plain path need not exist, nor what a link
    points to: its row will say so.

    A folder that holds pictures is one clip, of these frames.

    Raises OptionError for standard input, for a folder without pictures, for a pattern that matches no file, and for a
    name that is no text.
    """
    found: dict[str, str] = {}
    for pattern in patterns:
        if pattern == STDIN:
            why = "a job is gone on with by the names of its media, and it has none"
            raise OptionError("standard input is nothing to map over", why, "write it to a file and name that")
        if is_address(pattern):
            check_text(pattern)
            found.setdefault(pattern, pattern)
            continue
        for path in _matches(os.path.expanduser(pattern)):
            name = os.path.abspath(path)
            check_text(name)
            found.setdefault(_identity(name), name)
    if not found:
        raise OptionError("no video is given", hint="name files, or a pattern such as 'videos/*.mp4'")
    return list(found.values())


def check_text(text: str) -> None:
    """Raises OptionError for a path or a question that has no UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        name = text.encode(errors="backslashreplace").decode()
        raise OptionError(
            f"`{name}` is no UTF-8", "a table could not hold it", "rename the file, or write the question anew"
        ) from None


def _matches(pattern: str) -> list[str]:
    if os.path.isdir(pattern):
        if _has_pictures(pattern):
            return [pattern]
        example = os.path.join(glob.escape(pattern), "*.mp4")
        raise OptionError(
            f"`{pattern}` is a folder",
            "it holds no pictures that would be frames",
            hint=f"name the videos in it, e.g. '{example}'",
        )
    if os.path.lexists(pattern) or not glob.has_magic(pattern):
        return [pattern]
    files = _files(pattern) or _files(_literal(pattern))
    if not files:
        hint = "check the path; ** stands for any folders, and [[] for a bracket in a name"
        raise OptionError(f"no file matches `{pattern}`", hint=hint)
    return files


def _has_pictures(folder: str) -> bool:
    try:
        return bool(frames_in(folder))
    except OSError:
        return False


def _files(pattern: str) -> list[str]:
    """What a pattern matches, by name; of several names of a file the one without links, else the first."""
    named: dict[str, str] = {}
    for path in sorted({path for path in _expanded(pattern) if not os.path.isdir(path)}):
        identity = _identity(path)
        if named.setdefault(identity, path) != path and os.path.abspath(path) == identity:
            named[identity] = path
    return sorted(named.values())


def _identity(path: str) -> str:
    """Equal for names of the same file. A link to nothing is only itself."""
    return os.path.realpath(path) if os.path.exists(path) else os.path.abspath(path)


def _expanded(pattern: str) -> Iterator[str]:
    """As `glob.glob`, but each part of a pattern enters each folder once: links in circles give it ever more names."""
    *parts, last = pattern.split(os.sep)
    if last == ANY_FOLDERS:
        parts, last = [*parts, last], "*"
    folders = [os.sep if pattern.startswith(os.sep) else ""]
    for part in filter(None, parts):
        if part == ANY_FOLDERS:
            folders = list(_below(folders))
        else:
            found = (path for folder in folders for path in _matching(folder, part) if os.path.isdir(path))
            folders = _once_each(found)
    for folder in folders:
        yield from _matching(folder, last)


def _matching(folder: str, part: str) -> list[str]:
    return sorted(glob.glob(os.path.join(glob.escape(folder), part)))


def _once_each(folders: Iterable[str]) -> list[str]:
    """A name of each folder, without links where there is one; folders of such names first."""
    named: dict[str, str] = {}
    for folder in folders:
        if named.setdefault(os.path.realpath(folder or os.curdir), folder) != folder and not _by_link(folder):
            named[os.path.realpath(folder)] = folder
    return sorted(named.values(), key=_by_link)


def _by_link(folder: str) -> bool:
    return os.path.abspath(folder) != os.path.realpath(folder or os.curdir)


def _below(tops: Iterable[str]) -> Iterator[str]:
    """`tops` and all folders below them, those without links in their names first; hidden ones are left out."""
    entered, waiting, links = set(), list(reversed(_once_each(tops))), list[str]()
    while waiting:
        folder = waiting.pop()
        identity = _inode(folder or os.curdir)
        if identity is not None and identity not in entered:
            entered.add(identity)
            yield folder
            for name in _visible_folders(folder):
                path = os.path.join(folder, name)
                (links if os.path.islink(path) else waiting).append(path)
        if not waiting:
            waiting, links = sorted(links, reverse=True), []


def _inode(folder: str) -> tuple[int, int] | None:
    """Equal for names of the same folder; None where it is gone or out of reach."""
    try:
        found = os.stat(folder)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _visible_folders(folder: str) -> list[str]:
    """Names of folders and of links to folders, backwards. A folder that may not be read holds nothing, as for `*`."""
    try:
        names = os.listdir(folder or os.curdir)
    except OSError:
        return []
    return sorted(
        (name for name in names if name[0] != "." and os.path.isdir(os.path.join(folder, name))), reverse=True
    )


def _literal(pattern: str) -> str:
    """The pattern with the folders that exist by exactly these names taken by their names, brackets and all."""
    parts = pattern.split(os.sep)
    for count in range(len(parts) - 1, 0, -1):
        folder = os.sep.join(parts[:count])
        if os.path.isdir(folder):
            return os.sep.join([glob.escape(folder), *parts[count:]])
    return pattern
