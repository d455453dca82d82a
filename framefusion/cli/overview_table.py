"""All methods of an evaluation as one table per equivalent cost, the most accurate first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from framefusion.cli.console import out
from framefusion.cli.evaluation_table import points
from framefusion.core.text import cell
from framefusion.evaluation.plot_overview import control_labels, ranked

if TYPE_CHECKING:
    from framefusion.evaluation.result import Evaluation


def show_overview(found: Evaluation) -> None:
    """A table for each cost."""
    dense = f"dense {found.dense.accuracy.value:.1%}, chance {found.chance:.1%}"
    about = f"{found.samples} questions of {len(found.kinds)} kinds, seed {found.seed}, {dense}"
    out.print(Text.assemble(cell(found.model, "bold"), f", {about}"))
    for target in dict.fromkeys(entry.target for entry in found.entries):
        out.print(_table(found, target))


def _table(found: Evaluation, target: float | None) -> Table:
    controls = control_labels(found)
    table = Table(
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        title=f"at cost {target:g}: points before each control with 95 % intervals, time of the decision",
        title_justify="left",
    )
    table.add_column("", no_wrap=True)
    for name in ("cost", "right", *controls, "ms"):
        table.add_column(cell(name), justify="right", no_wrap=True)
    against = {(one.method, one.control): one.overall for one in found.comparisons if one.target == target}
    for entry in ranked(found, target):
        ahead = [points(against.get((entry.label, label))) for label in controls]
        label = cell(entry.label, "dim" if entry.role == "control" else "")
        time = "" if entry.decision_ms is None else f"{entry.decision_ms:.1f}"
        table.add_row(label, f"{entry.score.cost:.1%}", f"{entry.score.accuracy.value:.1%}", *ahead, time)
    return table
