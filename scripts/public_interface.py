"""The public names of the package, as type checkers read them: `python -m scripts.public_interface` writes them.

Names are imported when they are first used, which a type checker cannot follow. What it reads instead, in
`framefusion/__init__.py`, is written from the two tables that name everything: methods in
`framefusion/core/registry.py`, the rest in `framefusion/__init__.py` itself.
"""

from __future__ import annotations

import re
from pathlib import Path

import framefusion

FILE = Path(framefusion.__file__)
IMPORTS = "    # Imports: written by `python -m scripts.public_interface`.\n"
NAMES = "# Names: written by `python -m scripts.public_interface`.\n"


def written() -> str:
    """The text of `framefusion/__init__.py` with both lists as the tables say."""
    places = {**framefusion._methods(), **framefusion._NAMES}
    lines = [f"    from {place} import {name} as {name}\n" for name, place in places.items()]
    names = "".join(f'    "{name}",\n' for name in sorted(places, key=_order))
    text = FILE.read_text(encoding="utf-8")
    text = re.sub(rf"{re.escape(IMPORTS)}(    .*\n)*", IMPORTS + "".join(sorted(lines)), text)
    return re.sub(rf"{re.escape(NAMES)}__all__ = \[[^]]*\]\n", f"{NAMES}__all__ = [\n{names}]\n", text)


def _order(name: str) -> tuple[bool, bool, str]:
    """Constants, then classes, then functions, as the linter wants lists of names."""
    return not name.isupper(), not name[0].isupper(), name


if __name__ == "__main__":
    FILE.write_text(written(), encoding="utf-8")
