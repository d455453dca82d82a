"""An evaluation as tables on stdout."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from framefusion.cli.console import out
from framefusion.core.text import cell

if TYPE_CHECKING:
    from framefusion.evaluation.paired import Interval, Paired
    from framefusion.evaluation.result import Comparison, Entry, Evaluation

NEAR = 0.02
"""Costs that differ by less are matched."""
GAP = 2
"""Between two columns of a table."""


def show(found: Evaluation) -> None:
    """All arms with their costs, then the accuracy of each kind of question."""
    about = f"{found.samples} questions of {len(found.kinds)} kinds, seed {found.seed}, chance {found.chance:.1%}"
    out.print(Text.assemble(cell(found.model, "bold"), f", {about}"))
    out.print(_arms(found))
    for target in dict.fromkeys(entry.target for entry in found.entries):
        own = [entry for entry in found.entries if entry.target == target]
        title = f"accuracy by kind, {priced(own)}"
        for entries in beside(own, out.width - len(max(found.kinds, key=len)) - len("   chance  dense  ")):
            out.print(_kinds(found, entries, title))


def _arms(found: Evaluation) -> Table:
    encodes_less = any(entry.score.patches_share < 1.0 for entry in found.entries)
    table = Table(
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        caption="in brackets 95 % intervals; ahead: points before that control, on the same questions; ms: prefill"
        + ("; encoded: patches that entered the vision tower" if encodes_less else ""),
        caption_justify="left",
    )
    table.add_column("", overflow="fold", max_width=18)
    shares = ("cost", "kept", *(["encoded"] if encodes_less else []))
    for name in (*shares, "accuracy", "retained", "ahead", "ms"):
        table.add_column(name, justify="right", no_wrap=True)
    dense = found.dense
    table.add_row("dense", *["100%"] * len(shares), f"{dense.accuracy.value:.1%}", "", "", f"{dense.prefill_ms:.0f}")
    ahead = {(one.control, one.target): one for one in found.comparisons}
    for target in dict.fromkeys(entry.target for entry in found.entries):
        table.add_section()
        for entry in found.entries:
            if entry.target == target:
                rival = ahead.get((entry.label, target)) if entry.role == "control" else None
                table.add_row(*_arm(entry, rival, encodes_less))
    return table


def _arm(entry: Entry, ahead: Comparison | None, encodes_less: bool) -> tuple[str | Text, ...]:
    score = entry.score
    return (
        cell(entry.label, "bold" if entry.role == "method" else ""),
        f"{score.cost:.0%}",
        f"{score.kept_fraction:.0%}",
        *([f"{score.patches_share:.0%}"] if encodes_less else []),
        f"{score.accuracy.value:.1%}",
        _share(entry.against_dense.share),
        points(ahead.overall if ahead else None),
        f"{score.prefill_ms:.0f}",
    )


def beside(entries: list[Entry], width: int) -> list[list[Entry]]:
    """As many in each table as have their names in so many columns, in order; one at least."""
    tables: list[list[Entry]] = [[]]
    left = width
    for entry in entries:
        left -= len(entry.label) + GAP
        if left < 0 and tables[-1]:
            tables.append([])
            left = width - len(entry.label) - GAP
        tables[-1].append(entry)
    return tables


def _kinds(found: Evaluation, entries: list[Entry], title: str) -> Table:
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), title=title, title_justify="left")
    for name in ("kind", "chance", "dense", *(entry.label for entry in entries)):
        table.add_column(cell(name), justify="left" if name == "kind" else "right")
    for kind in found.kinds:
        shares = [found.dense.by_kind[kind], *(entry.score.by_kind[kind] for entry in entries)]
        table.add_row(cell(kind), f"{found.chance_by_kind[kind]:.0%}", *(f"{share.value:.0%}" for share in shares))
    return table


def priced(entries: list[Entry]) -> str:
    """At which cost the arms of one table were asked, and what they really cost where that is another one."""
    target, costs = entries[0].target, [entry.score.cost for entry in entries]
    low, high = min(costs), max(costs)
    measured = f"{low:.0%}" if high - low < NEAR else f"{low:.0%} to {high:.0%}"
    if target is None:
        return f"as configured, at cost {measured}"
    matched = max(abs(cost - target) for cost in costs) < NEAR
    return f"at cost {target:g}" if matched else f"asked at cost {target:g}, measured {measured}"


def _share(found: Interval) -> str:
    if math.isnan(found.value):
        return "—"
    return rf"{found.value:.1%} [dim]\[{100 * found.low:.0f}, {100 * found.high:.0f}][/]"


def points(found: Paired | None) -> str:
    """A paired difference with its interval, empty where there is none."""
    if found is None:
        return ""
    value, low, high = (100 * getattr(found.difference, end) for end in ("value", "low", "high"))
    return rf"{value:+.1f} [dim]\[{low:.0f}, {high:.0f}][/]"
