"""How far a run is: bars on a terminal, elsewhere a line now and then."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import Progress

SECONDS = 60


class Lines:
    """One line a minute for each thing that is done, and one at its end."""

    def __init__(self, console: Console) -> None:
        self.console, self.last = console, dict[str, float]()

    def __call__(self, what: str, done: int, total: int) -> None:
        now = time.monotonic()
        if done == total or now - self.last.setdefault(what, now) > SECONDS:
            self.last[what] = now
            self.console.print(f"{time.strftime('%H:%M:%S')} {what} {done}/{total}", markup=False, highlight=False)


@contextmanager
def watcher() -> Iterator[Callable[[str, int, int], None]]:
    """Told what is done, how many steps of it, and of how many."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield Lines(console)
        return
    with Progress(console=console) as progress:
        tasks: dict[str, Any] = {}

        def tell(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = progress.add_task(what, total=total)
            progress.update(tasks[what], completed=done)

        yield tell
