"""What a name on the command line stands for: an address, standard input, or a file."""

from __future__ import annotations

import os
import re

STDIN = "-"
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://|(data):\w+/", re.IGNORECASE)


def scheme_of(name: str) -> str | None:
    """The scheme of an address in lower case, None for the name of a file."""
    found = _SCHEME.match(name)
    return (found[1] or found[2]).lower() if found else None


def is_address(name: str) -> bool:
    """Whether `name` is an address, of whatever scheme, and no file."""
    return scheme_of(name) is not None


def is_something(name: str) -> bool:
    """Whether `name` is that of a medium rather than a sentence: an address, standard input or an existing file."""
    return name == STDIN or os.path.lexists(name) or (is_address(name) and len(name.split()) == 1)
