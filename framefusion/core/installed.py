"""Which releases of which packages are at work, for records that are read later."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

TESTED = ("5.17", "5.24")
"""The lowest and the highest minor release of transformers that the tests run on."""


def versions_of(*packages: str) -> dict[str, str]:
    """By name; a package that is not installed is left out."""
    found = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
