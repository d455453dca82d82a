"""What every command shares: two consoles, JSON, and progress on stderr."""

from __future__ import annotations

import json
import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.text import Text

from framefusion.core.text import cell, one_line

if TYPE_CHECKING:
    from rich.progress import Progress

    from framefusion.core.registry import Registry

JSON_OPTION = typer.Option("--json", help="Print one JSON document on stdout instead of text.")

# Without emoji, because `:cat:` in an answer is what the model wrote.
out = Console(highlight=False, emoji=False)
err = Console(stderr=True, highlight=False, emoji=False)


def print_json(data: Any) -> None:
    typer.echo(json.dumps(data, indent=2))


def explain(problem: str, hint: str = "") -> None:
    """One line for the problem and one for the hint, on stderr if that can be written."""
    with suppress(OSError):
        err.print(Text.assemble(("error:", "bold red"), " ", one_line(problem)), soft_wrap=True)
        if hint:
            err.print(Text.assemble(("hint:", "bold"), " ", one_line(hint)), soft_wrap=True)


def leave_output() -> None:
    """Let what is still to be written go nowhere: Python would fail over it once more when it ends."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            try:
                stream.flush()
            except OSError:
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, stream.fileno())
                os.close(nowhere)


def note(message: str) -> None:
    err.print(Text(one_line(message), "dim"), soft_wrap=True)


def note_broken(registry: Registry) -> None:
    """Say which plugins of a registry could not be loaded."""
    for error in registry.broken.values():
        note(f"{error.what}: {error.why}")


def say(text: str, end: str = "\n") -> None:
    """Words of a model, a path or any other text from outside, on stdout."""
    out.print(cell(text), end=end, soft_wrap=True)


@contextmanager
def working_on(what: str) -> Iterator[None]:
    """A spinner on stderr while something takes long."""
    with err.status(Text(one_line(what))):
        yield


def words(text: str | None) -> list[str] | None:
    """The parts of a list with commas."""
    return None if text is None else [part.strip() for part in text.split(",") if part.strip()]


@contextmanager
def progress_on_stderr(kept: str) -> Iterator[Progress]:
    """Bars with the time that is left; when interrupted, says what is kept and how to go on."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err, transient=True) as progress:
        try:
            yield progress
        except KeyboardInterrupt:
            progress.stop()
            explain("interrupted", f"{kept}; the same command goes on from there")
            raise typer.Exit(130) from None


@contextmanager
def progress_bar(kept: str = "every answer so far is kept") -> Iterator[Callable[[str, int, int], None]]:
    """A bar for each thing that is being done. kept: what is there still when it is interrupted."""
    with progress_on_stderr(kept) as progress:
        tasks: dict[str, Any] = {}

        def watch(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = progress.add_task(one_line(what), total=total)
            progress.update(tasks[what], completed=done, total=total)

        yield watch


def quiet_libraries() -> None:
    """Keep the chatter of other packages away from people who only asked a question."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    for name in ("torchao", "torch.utils._pytree"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="torch|transformers|torchao")
    from transformers.utils import logging as hf_logging

    hf_logging.set_verbosity_error()
    hf_logging.disable_progress_bar()
