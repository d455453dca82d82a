"""A headless Chromium for tests of pages; a test that asks for it is skipped where there is none."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    drive = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with drive.sync_playwright() as tools:
        found = next((path for path in map(shutil.which, NAMES) if path), None)
        bundled = tools.chromium.executable_path
        if found is None and not Path(bundled).exists():
            pytest.skip(f"no browser: none of {', '.join(NAMES)} is installed")
        # Its sandbox needs rights that a container rarely has; it opens nothing but our own pages.
        running = tools.chromium.launch(executable_path=found or bundled, args=["--no-sandbox"])
        yield running
        running.close()
