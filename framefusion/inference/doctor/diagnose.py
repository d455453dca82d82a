"""Everything together, and the verdict."""

from __future__ import annotations

import platform
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

from .devices import Device, Kernel, all_devices, all_kernels
from .extras import Extra, all_extras
from .selfcheck import Check, run_checks
from .versions import CONTRADICTORY, Release, all_releases

T = TypeVar("T")
GOOD, UNTESTED, BROKEN = "good", "untested", "broken"


@dataclass(frozen=True)
class Diagnosis:
    """verdict: good, untested (everything tried works, on releases outside the tested ones) or broken."""

    verdict: str
    why: tuple[str, ...]
    system: str
    releases: tuple[Release, ...]
    devices: tuple[Device, ...]
    kernels: tuple[Kernel, ...]
    extras: tuple[Extra, ...]
    checks: tuple[Check, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


def diagnose(try_it: bool = True) -> Diagnosis:
    """Look at this installation. try_it: run the checks with the embedded model, which takes a few seconds."""
    # First: whether a package's code agrees with its metadata shows once it is loaded.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the release is reported below
        checks = run_checks() if try_it else []
    releases = all_releases()
    devices: list[Device] = _or_nothing(all_devices)
    kernels: list[Kernel] = _or_nothing(all_kernels)
    broken = [_problem(release) for release in releases if not release.usable]
    broken += [f"{check.name}: {check.detail}" for check in checks if check.passed is False]
    odd = [_problem(release) for release in releases if release.odd]
    verdict = BROKEN if broken else UNTESTED if odd else GOOD
    system = f"{platform.system()} {platform.release()}, {platform.machine()}"
    found = (releases, devices, kernels, all_extras(), checks)
    return Diagnosis(verdict, tuple(broken + odd), system, *map(tuple, found))  # type: ignore[arg-type]


def _problem(release: Release) -> str:
    if release.state == CONTRADICTORY:
        return f"{release.name}: {release.remark}"
    wanted = f"tested: {release.tested}" if release.odd and release.tested else f"required: {release.required}"
    told = f"; {release.remark}" if release.remark else ""
    return " ".join(filter(None, (release.name, release.installed, "is", release.state))) + f" ({wanted}){told}"


def _or_nothing(look: Callable[[], list[T]]) -> list[T]:
    """Without torch, and with a broken one, there is nothing to list."""
    try:
        return look()
    except Exception:
        return []
