"""Starts the page's server and stops it; everything that visitors left is gone with it."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event, Thread
from typing import TYPE_CHECKING, Any

from framefusion.core.errors import MissingPackageError, OptionError
from framefusion.integrations.app.guard import Guard
from framefusion.integrations.app.limits import Limits
from framefusion.integrations.app.reading import Reader
from framefusion.integrations.app.uploads import Uploads, is_full

if TYPE_CHECKING:
    from framefusion.inference.answer.checkpoint import Checkpoint
    from framefusion.integrations.app.settings import Settings

_EACH = 60.0
"""Seconds from one look for clips that are too old to the next."""

# Read by Gradio when it is imported and when a page is built.
_QUIET = {"GRADIO_ANALYTICS_ENABLED": "False", "GRADIO_MCP_SERVER": "False", "GRADIO_SSR_MODE": "False"}


def check_installed() -> None:
    """Raises MissingPackageError without Gradio, before a model is loaded."""
    from importlib.util import find_spec

    if find_spec("gradio") is None:
        raise MissingPackageError("the app needs Gradio", "it is an extra", "pip install 'framefusion[app]'")


@contextmanager
def serving(
    checkpoints: Mapping[str, Checkpoint],
    usual: Settings,
    limits: Limits | None = None,
    host: str = "127.0.0.1",
    port: int | None = None,
    offline: bool = False,
) -> Iterator[str]:
    """The page, for as long as the block lasts; gives its address.

    Args:
        checkpoints: the models that visitors may choose, by name.
        usual: what a page is set to that no link sets.
        limits: of one visitor; None for the usual ones.
        host: to listen on; only this machine reaches the usual one.
        port: None for the first free one from 7860.
        offline: clips are not fetched from addresses.

    Raises:
        OptionError: nothing can listen there.
    """
    limits = limits or Limits()
    with TemporaryDirectory(prefix="framefusion-app-") as folder, _environment(_QUIET | {"GRADIO_TEMP_DIR": folder}):
        from framefusion.integrations.app.events import Events
        from framefusion.integrations.app.layout import build, style, theme

        with TemporaryDirectory(prefix="framefusion-clips-") as own:
            uploads = Uploads(Path(own), limits)
            events = Events(
                dict(checkpoints), usual, limits, uploads, Reader(Path(own), fetched=limits.upload), offline
            )
            page = build(events).queue(max_size=limits.waiting)
            options = {"theme": theme(), "css": style(), **_options(limits, Path(folder))}
            try:
                _, address, _ = page.launch(server_name=host, server_port=port, **options)
            except OSError as error:
                hint = "name another --port, or leave it out for the first free one"
                raise OptionError(f"the app cannot listen on {host}:{port or 7860}", str(error), hint) from None
            stopped = Event()
            Thread(target=_expire, args=(uploads, stopped), daemon=True).start()
            try:
                yield address
            finally:
                stopped.set()
                page.close(verbose=False)


def until_stopped() -> None:
    """Wait for Ctrl-C or for the system to end this process; both leave nothing behind."""
    stop = Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    while not stop.wait(1.0):  # without a limit, Windows would not let a signal through
        pass


def _options(limits: Limits, folder: Path) -> dict[str, Any]:
    """folder: where Gradio puts what arrives, until it becomes a visitor's clip."""
    from starlette.middleware import Middleware

    return {
        "prevent_thread_lock": True,
        "quiet": True,
        "share": False,
        "show_error": False,
        "footer_links": [],
        "run_history": False,
        "enable_monitoring": False,
        "ssr_mode": False,
        "pwa": False,
        "mcp_server": False,
        # Gradio (6.31) would give up where its own address does not answer within three seconds, as on a busy machine.
        "_frontend": False,
        "max_file_size": limits.upload,
        "app_kwargs": {"middleware": [Middleware(Guard, upload=limits.upload, full=partial(is_full, folder, limits))]},
    }


def _expire(uploads: Uploads, stopped: Event) -> None:
    while not stopped.wait(_EACH):
        uploads.expire()


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
