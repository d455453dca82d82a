"""`framefusion doctor`: what is installed, and whether a reduction is right on it."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from framefusion.cli.console import JSON_OPTION, out, print_json, quiet_libraries, say, working_on
from framefusion.core.text import cell
from framefusion.inference.report import bytes_for_people

if TYPE_CHECKING:
    from collections.abc import Iterable

    from framefusion.inference.doctor import Diagnosis

COLOURS = {"good": "green", "untested": "yellow", "broken": "bold red"}
BROKEN = 2


def doctor(
    json: Annotated[bool, JSON_OPTION] = False,
    check: Annotated[
        bool, typer.Option("--check/--no-check", help="Try the embedded model, which takes a few seconds.")
    ] = True,
) -> None:
    """Say which releases are installed and tested, what would be used, and whether a reduction is right on them.

    Exit code 0, or 2 where something is missing, too old, or wrong. Its output belongs into a report of a bug.
    """
    from framefusion.inference.doctor import diagnose

    with suppress(ImportError):  # said below
        quiet_libraries()
    with working_on("looking"):
        found = diagnose(check)
    if json:
        print_json(found.to_dict())
    else:
        _show(found)
    if found.verdict == "broken":
        raise typer.Exit(BROKEN)


def _show(found: Diagnosis) -> None:
    say(found.system)
    releases = ((r.name, r.installed or "", r.required, r.tested, r.state, r.remark) for r in found.releases)
    _table(("package", "installed", "required", "tested", "", ""), releases)
    devices = ((d.name, d.kind, "" if d.memory is None else bytes_for_people(d.memory)) for d in found.devices)
    _table(("device", "", "memory"), devices)
    _table(("for", "used", "faster with"), ((k.what, k.used, k.better) for k in found.kernels))
    extras = (
        (e.name, e.purpose, "there" if not e.missing else f"missing: {', '.join(e.missing)}") for e in found.extras
    )
    _table(("extra", "for", ""), extras)
    marks: dict[bool | None, str] = {True: "passed", False: "FAILED", None: "not tried"}
    _table(("check", "", "seen"), ((c.name, marks[c.passed], c.detail) for c in found.checks))
    out.print(Text.assemble("verdict: ", (found.verdict, COLOURS[found.verdict])))
    for reason in found.why:
        say(f"  {reason}")


def _table(names: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> None:
    table = Table(*names, box=SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    for row in rows:
        table.add_row(*map(cell, row))
    if table.row_count:
        out.print(table)
