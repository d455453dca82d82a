"""What `framefusion stream` shows: a live display and answers for people, or a line of JSON for each event."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Any

import typer
from rich.live import Live
from rich.table import Table

from framefusion.cli.console import err, note, say
from framefusion.core.lines import line_of
from framefusion.core.text import cell

if TYPE_CHECKING:
    from framefusion.inference.live import Notice
    from framefusion.inference.stream.status import StreamAnswer, StreamStatus

_MIB = 2**20


class Output:
    """Base of both: nothing is shown of an event that is not overridden."""

    def __enter__(self) -> Output:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def start(self, facts: dict[str, Any]) -> None:
        """facts: source, model and settings."""

    def status(self, status: StreamStatus) -> None:
        """A window was read."""

    def notice(self, notice: Notice, seconds: float) -> None:
        """Something happened to the source."""

    def answer(self, question: str, answer: StreamAnswer) -> None:
        """A question was answered."""

    def saved(self, path: str) -> None:
        """The tape was written."""

    def end(self, status: StreamStatus, interrupted: bool) -> None:
        """Nothing follows."""


class JsonLines(Output):
    """One object per line on stdout, each with its `event`."""

    def start(self, facts: dict[str, Any]) -> None:
        self._line("start", facts)

    def status(self, status: StreamStatus) -> None:
        self._line("status", status.to_dict())

    def notice(self, notice: Notice, seconds: float) -> None:
        self._line("notice", {"kind": notice.kind, "text": notice.text, "seconds": seconds})

    def answer(self, question: str, answer: StreamAnswer) -> None:
        facts = {"question": question, "text": answer.text, "seconds": answer.seconds}
        self._line("answer", {**facts, "tokens_read": answer.tokens_read})

    def saved(self, path: str) -> None:
        self._line("saved", {"path": path})

    def end(self, status: StreamStatus, interrupted: bool) -> None:
        self._line("end", {"interrupted": interrupted, **status.to_dict()})

    def _line(self, event: str, facts: dict[str, Any]) -> None:
        typer.echo(line_of({"event": event, **facts}))


class Display(Output):
    """Answers on stdout; on stderr what happens, and on a terminal a display of the stream that is kept up to date."""

    def __init__(self) -> None:
        self._live: Live | None = None
        if err.is_terminal:
            # Left alone, it would take what goes to stdout for its own, wherever that leads.
            self._live = Live(
                console=err, refresh_per_second=4, transient=True, redirect_stdout=False, redirect_stderr=False
            )
        self._source = ""

    def __enter__(self) -> Display:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def start(self, facts: dict[str, Any]) -> None:
        self._source = facts["source"]
        note(f"watching {self._source}; Ctrl-C ends it")

    def status(self, status: StreamStatus) -> None:
        if self._live is not None:
            self._live.update(table(self._source, status))

    def notice(self, notice: Notice, seconds: float) -> None:
        note(f"{_clock(seconds)} {notice.text}")

    def answer(self, question: str, answer: StreamAnswer) -> None:
        note(f"{_clock(answer.seconds)} {question}")
        if self._live is not None:
            self._live.stop()
        say(answer.text)
        if self._live is not None:
            self._live.start(refresh=True)

    def saved(self, path: str) -> None:
        note(f"the tape is in {path}; go on with --resume")

    def end(self, status: StreamStatus, interrupted: bool) -> None:
        note(", ".join(f"{name} {value}" for name, value in rows(status)))


def rows(status: StreamStatus) -> list[tuple[str, str]]:
    """Names and values of what is known of a stream, as people read them."""
    kept = f"{_mib(status.cache_bytes)} of {_mib(status.full_cache_bytes)}" if status.full_cache_bytes else ""
    return [
        ("time seen", _clock(status.seconds_seen)),
        ("frames", f"{status.frames_seen:,} in {status.windows:,} windows"),
        ("tokens", f"{status.tokens_seen:,} seen, {status.tokens_kept:,} kept"),
        ("cache", kept or _mib(status.cache_bytes)),
        ("last window", f"{status.last_window_seconds:.2f} s"),
    ]


def table(source: str, status: StreamStatus) -> Table:
    """The display."""
    shown = Table.grid(padding=(0, 2))
    shown.add_row(cell("source", "bold"), cell(source))
    for name, value in rows(status):
        shown.add_row(cell(name, "bold"), cell(value))
    return shown


def _mib(count: int) -> str:
    return f"{count / _MIB:,.1f} MiB"


def _clock(seconds: float) -> str:
    from framefusion.inference.live.schedule import time_of

    return time_of(seconds)
