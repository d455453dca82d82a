"""A study as tables on stdout: one per method, and the best that fits into each memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from framefusion.cli.console import out, say
from framefusion.core.text import cell
from framefusion.evaluation.study.frontier import frontier, plane_of, planes
from framefusion.evaluation.study.labels import about, column_of, methods_of, title_of
from framefusion.evaluation.study.recommend import steps
from framefusion.inference.report import bytes_for_people

if TYPE_CHECKING:
    from collections.abc import Sequence

    from framefusion.evaluation.study.frontier import Plane
    from framefusion.evaluation.study.rows import Row
    from framefusion.evaluation.study.run import Study


def show(found: Study) -> None:
    """Accuracy of all cells, the frontier, and what to turn on."""
    out.print(Text.assemble(cell(found.model, "bold"), f", {', '.join(about(found))}; * simulated"))
    for method in methods_of(found.rows):
        out.print(_method(found.rows, method))
    for plane in planes(found.rows):
        out.print(_frontier(found.rows, plane))
    for number, step in enumerate(steps(found.rows), 1):
        say(f"{number}. {step.after.id}: saves {bytes_for_people(round(step.saved))}")


def _method(rows: Sequence[Row], method: str) -> Table:
    """Accuracy: a line per precision of the model and budget, a column per width of the cache."""
    shown = [row for row in rows if row.method == method or row.budget == 1.0]
    columns = list(dict.fromkeys(row.kv for row in shown))
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), title=cell(f"{method}: accuracy"), title_justify="left")
    table.add_column("")
    table.add_column("tokens", justify="right")
    for kv in columns:
        table.add_column(f"KV{column_of(kv)}", justify="right")
    cells = {(*plane_of(row), row.budget, row.kv): row for row in shown}
    for plane in planes(shown):
        table.add_section()
        for number, budget in enumerate(sorted({row.budget for row in shown}, reverse=True)):
            line = [cells.get((*plane, budget, kv)) for kv in columns]
            values = ["" if row is None else f"{row.accuracy.value:.0%}" for row in line]
            table.add_row("" if number else title_of(*plane), f"{budget:g}", *values)
    return table


def _frontier(rows: Sequence[Row], plane: Plane) -> Table:
    table = Table(
        box=SIMPLE_HEAD, padding=(0, 1, 0, 0), title=f"best that fits, {title_of(*plane)}", title_justify="left"
    )
    for name in ("memory", "row", "accuracy", "other half"):
        table.add_column(name, justify="left" if name == "row" else "right", no_wrap=True)
    for one in frontier(rows, plane):
        table.add_row(f"{one.share:.3g}", cell(one.chosen.id), f"{one.chosen.accuracy.value:.1%}", f"{one.unseen:.1%}")
    return table
