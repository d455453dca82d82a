"""Installed releases against what this release of the package asks for and was tested with."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version

from framefusion.core.installed import TESTED as TRANSFORMERS

PACKAGE = "framefusion"
PYTHON = ("3.11", "3.11")
OK, BELOW, ABOVE, MISSING, CONTRADICTORY = "tested", "too old", "newer than tested", "missing", "contradictory"
UNTESTED = "untested"

TESTED = {
    "torch": ("2.13", "2.13"),
    "torchvision": ("0.28", "0.28"),
    "transformers": TRANSFORMERS,
}
"""Lowest and highest minor release the tests run on; other packages change no verdict."""

REMARKS = {
    "transformers": (
        ((5, 23), "rounds the seconds between frames of Qwen2.5-VL to whole ones, so questions about time suffer"),
    ),
}
"""What releases below a number do to answers, with a reduction or without."""


@dataclass(frozen=True)
class Release:
    """One package. installed: None where it is missing. required, tested: in words. state: one of the words above."""

    name: str
    installed: str | None
    required: str
    tested: str
    state: str
    remark: str = ""

    @property
    def usable(self) -> bool:
        return self.state not in (BELOW, MISSING)


def all_releases() -> list[Release]:
    """Python, this package and everything it cannot do without."""
    own = version_of(PACKAGE) or _version_in_code()
    found = [_python(), Release(PACKAGE, own, "", "", OK)]
    return found + [_release(name, lowest) for name, lowest in requirements()]


def requirements(extra: str | None = None) -> Iterator[tuple[str, str]]:
    """Name and lowest release of the packages needed always, or for `extra`, as the installed package declares them."""
    try:
        declared = requires(PACKAGE) or []
    except PackageNotFoundError:  # run from a folder
        declared = []
    for line in declared:
        what, _, condition = line.partition(";")
        named = re.search(r"extra\s*==\s*['\"]([\w-]+)['\"]", condition)
        if (named[1] if named else None) == extra:
            name = re.match(r"[\w.-]+", what)
            lowest = re.search(r">=\s*([\w.]+)", what)
            if name is not None:
                yield name[0], lowest[1] if lowest else ""


def version_of(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def numbers(text: str) -> tuple[int, ...]:
    """(5, 24, 1) of "5.24.1.dev0"."""
    found = re.match(r"\d+(?:\.\d+)*", text)
    return tuple(map(int, found[0].split("."))) if found else ()


def _release(name: str, lowest: str) -> Release:
    installed, tested = version_of(name), TESTED.get(name)
    words = "" if tested is None else tested[0] if tested[0] == tested[1] else f"{tested[0]} to {tested[1]}"
    required = f"{lowest} or newer" if lowest else ""
    if installed is None:
        return Release(name, None, required, words, MISSING)
    state, remark = _state(numbers(installed), numbers(lowest), tested), _remark(name, installed)
    told = getattr(sys.modules.get(name), "__version__", installed)
    if numbers(str(told))[:2] != numbers(installed)[:2]:
        state, remark = (
            CONTRADICTORY,
            f"its metadata say {installed}, its code {told}: it is installed twice, or by half",
        )
    return Release(name, installed, required, words, state, remark)


def _state(found: tuple[int, ...], lowest: tuple[int, ...], tested: tuple[str, str] | None) -> str:
    if found < lowest:
        return BELOW
    if tested is None:
        return OK
    low, high = map(numbers, tested)
    return OK if low <= found[:2] <= high else ABOVE if found[:2] > high else UNTESTED


def _remark(name: str, installed: str) -> str:
    return "; ".join(text for below, text in REMARKS.get(name, ()) if numbers(installed) < below)


def _python() -> Release:
    installed, lowest = sys.version.split()[0], PYTHON[0]
    state = _state(numbers(installed), numbers(lowest), PYTHON)
    return Release("python", installed, f"{lowest} or newer", PYTHON[1], state)


def _version_in_code() -> str:
    from framefusion import __version__

    return __version__
