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
OK, PRESENT, UNTESTED = "tested", "there", "older than tested"
BELOW, ABOVE, MISSING, CONTRADICTORY = "too old", "newer than tested", "missing", "contradictory"

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

    @property
    def odd(self) -> bool:
        """Whether it works as far as is known, but was never tried."""
        return self.state in (UNTESTED, ABOVE, CONTRADICTORY)


def all_releases() -> list[Release]:
    """Python, this package and everything it cannot do without."""
    own = version_of(PACKAGE) or _version_in_code()
    found = [_python(), Release(PACKAGE, own, "", "", PRESENT)]
    needed = list(requirements()) or [Requirement(name) for name in TESTED]
    return found + [_release(one) for one in needed]


@dataclass(frozen=True)
class Requirement:
    """lowest: of the releases that do. below: the first that does not. Both are "" without such an end."""

    name: str
    lowest: str = ""
    below: str = ""

    def __str__(self) -> str:
        ends = (f">={self.lowest}" if self.lowest else "", f"<{self.below}" if self.below else "")
        return self.name + ",".join(filter(None, ends))

    def admits(self, installed: str) -> bool:
        found = numbers(installed)
        return found >= numbers(self.lowest) and (not self.below or found < numbers(self.below))


def requirements(extra: str | None = None) -> Iterator[Requirement]:
    """What is needed always, or for `extra`, as the installed package declares it; nothing when run from a folder."""
    try:
        declared = requires(PACKAGE) or []
    except PackageNotFoundError:
        declared = []
    for line in declared:
        what, _, condition = line.partition(";")
        named = re.search(r"extra\s*==\s*['\"]([\w-]+)['\"]", condition)
        if (named[1] if named else None) == extra and (name := re.match(r"[\w.-]+", what)):
            ends = (re.search(pattern, what) for pattern in (r">=\s*([\w.]+)", r"<\s*([\w.]+)"))
            yield Requirement(name[0], *(end[1] if end else "" for end in ends))


def version_of(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def numbers(text: str) -> tuple[int, ...]:
    """(5, 24, 1) of "5.24.1.dev0"."""
    found = re.match(r"\d+(?:\.\d+)*", text)
    return tuple(map(int, found[0].split("."))) if found else ()


def _release(needed: Requirement) -> Release:
    name, tested = needed.name, TESTED.get(needed.name)
    words = "" if tested is None else tested[0] if tested[0] == tested[1] else f"{tested[0]} to {tested[1]}"
    required = f"{needed.lowest} or newer" if needed.lowest else ""
    installed = version_of(name)
    if installed is None:
        return Release(name, None, required, words, MISSING)
    in_code = str(getattr(sys.modules.get(name), "__version__", installed))
    # The newer one of the two decides: what is not known of it is not known of the other either.
    newer = max(installed, in_code, key=numbers)
    state, remark = _state(newer, needed, tested), _remark(name, min(installed, in_code, key=numbers))
    if numbers(in_code)[:2] != numbers(installed)[:2]:
        remark = f"its metadata say {installed}, its code {in_code}: installed twice, or by half"
        state = CONTRADICTORY if state in (OK, PRESENT) else state
    return Release(name, newer, required, words, state, remark)


def _state(installed: str, needed: Requirement, tested: tuple[str, str] | None) -> str:
    if not needed.admits(installed):
        return BELOW if numbers(installed) < numbers(needed.lowest) else ABOVE
    if tested is None:
        return PRESENT
    low, found, high = numbers(tested[0]), numbers(installed)[:2], numbers(tested[1])
    return ABOVE if found > high else UNTESTED if found < low else OK


def _remark(name: str, installed: str) -> str:
    return "; ".join(text for below, text in REMARKS.get(name, ()) if numbers(installed) < below)


def _python() -> Release:
    installed, needed = sys.version.split()[0], Requirement("python", PYTHON[0])
    state = _state(installed, needed, PYTHON)
    return Release("python", installed, f"{PYTHON[0]} or newer", PYTHON[1], state)


def _version_in_code() -> str:
    from framefusion import __version__

    return __version__
