"""An evaluation as tables on stdout."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from rich.table import Table

from framefusion.cli.console import out

if TYPE_CHECKING:
    from framefusion.evaluation.paired import Interval, Paired
    from framefusion.evaluation.result import Comparison, Entry, Evaluation


def show(found: Evaluation) -> None:
    """All arms with their costs, then the accuracy of each kind of question."""
    out.print(
        f"[bold]{found.model}[/], {found.samples} questions of {len(found.kinds)} kinds, seed {found.seed}, "
        f"chance {found.chance:.1%}"
    )
    out.print(_arms(found))
    for target in dict.fromkeys(entry.target for entry in found.entries):
        out.print(_kinds(found, [entry for entry in found.entries if entry.target == target]))


def _arms(found: Evaluation) -> Table:
    table = Table(caption="95 % intervals; differences are paired, in points", caption_justify="left")
    table.add_column("")
    for name in ("cost", "kept", "accuracy", "retained", "against dense", f"{found.reduced.label} ahead by", "prefill"):
        table.add_column(name, justify="right")
    dense = found.dense
    table.add_row("dense", "100%", "100%", _share(dense.accuracy), "", "", "", f"{dense.prefill_ms:.0f} ms")
    ahead = {(one.control, one.target): one for one in found.comparisons}
    for target in dict.fromkeys(entry.target for entry in found.entries):
        table.add_section()
        for entry in found.entries:
            if entry.target == target:
                table.add_row(*_arm(entry, ahead.get((entry.label, target)) if entry.role == "control" else None))
    return table


def _arm(entry: Entry, ahead: Comparison | None) -> tuple[str, ...]:
    score, name = entry.score, entry.label
    return (
        f"[bold]{name}[/]" if entry.role == "method" else name,
        f"{score.cost:.1%}",
        f"{score.kept_fraction:.1%}",
        _share(score.accuracy),
        _share(entry.against_dense.share),
        _points(entry.against_dense),
        _points(ahead.overall) if ahead else "",
        f"{score.prefill_ms:.0f} ms",
    )


def _kinds(found: Evaluation, entries: list[Entry]) -> Table:
    cost = f"at cost {entries[0].target:g}" if entries[0].target is not None else "as configured"
    table = Table(title=f"accuracy by kind, {cost}", title_justify="left")
    for name in ("kind", "chance", "dense", *(entry.label for entry in entries)):
        table.add_column(name, justify="left" if name == "kind" else "right")
    for kind in found.kinds:
        shares = [found.dense.by_kind[kind], *(entry.score.by_kind[kind] for entry in entries)]
        table.add_row(kind, f"{found.chance_by_kind[kind]:.0%}", *(f"{share.value:.1%}" for share in shares))
    return table


def _share(found: Interval) -> str:
    if math.isnan(found.value):
        return "—"
    return f"{found.value:.1%} [dim]{found.low * 100:.1f}–{found.high * 100:.1f}[/]"


def _points(found: Paired) -> str:
    value = found.difference
    return f"{value.value * 100:+.1f} [dim]{value.low * 100:+.1f} to {value.high * 100:+.1f}[/]"
