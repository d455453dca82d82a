"""Whether the library that a width needs is installed."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

from framefusion.core.errors import MissingPackageError

if TYPE_CHECKING:
    from framefusion.inference.quantization.precision import Width


def require(part: str, width: Width, package: str, module: str | None = None, install: str | None = None) -> None:
    """Raises MissingPackageError with what to install, and the simulation to write instead.

    part: "weights" or "kv", which shall have `width`. module: of `package`, if its name differs. install: for pip.
    """
    path = module or package
    if find_spec(path.partition(".")[0]) is None or find_spec(path) is None:
        hint = f"pip install {install or package}, or write {part}=sim{width.bits}"
        raise MissingPackageError(f"{part}={width} needs {package}", "it is not installed", hint)
