"""From words on the command line to video files."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable

from framefusion.errors import OptionError


def find_videos(patterns: Iterable[str]) -> list[str]:
    """Absolute paths of files and of what patterns such as `videos/**/*.mp4` match, each once.

    The names a pattern matches are sorted. A plain path need not exist: its row will say so.
    Raises OptionError for a folder, for a pattern that matches no file, and for a name that is no text.
    """
    found: dict[str, None] = {}
    for pattern in patterns:
        for path in _matches(os.path.expanduser(pattern)):
            found[_as_text(os.path.abspath(path))] = None
    if not found:
        raise OptionError("no video is given", hint="name files, or a pattern such as 'videos/*.mp4'")
    return list(found)


def _matches(pattern: str) -> list[str]:
    if os.path.isdir(pattern):
        example = os.path.join(pattern, "*.mp4")
        raise OptionError(f"`{pattern}` is a folder", hint=f"name the videos in it, e.g. '{example}'")
    if os.path.exists(pattern) or not glob.has_magic(pattern):
        return [pattern]
    files = [path for path in sorted(glob.glob(pattern, recursive=True)) if not os.path.isdir(path)]
    if not files:
        raise OptionError(f"no file matches `{pattern}`", hint="check the path; ** stands for any folders")
    return files


def _as_text(path: str) -> str:
    try:
        path.encode()
    except UnicodeEncodeError:
        name = path.encode(errors="backslashreplace").decode()
        raise OptionError(f"the name `{name}` is no UTF-8", "a table could not hold it", "rename the file") from None
    return path
