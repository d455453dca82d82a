"""`framefusion methods`: what can be chosen with --method."""

from __future__ import annotations

from typing import Annotated, Any

from rich.table import Table
from rich.text import Text

from framefusion.cli.console import JSON_OPTION, note_broken, out, print_json
from framefusion.core import registry
from framefusion.core.options.option import in_words
from framefusion.core.text import cell


def methods(json: Annotated[bool, JSON_OPTION] = False) -> None:
    """List the reduction methods with their papers, options and defaults."""
    rows = registry.list_methods()
    for known in (registry.methods, registry.learned):
        note_broken(known)
    if json:
        print_json(rows)
        return
    for row in rows:
        _show(row)


def _show(row: dict[str, Any]) -> None:
    source = ", ".join(filter(None, (row["title"], row["paper"])))
    out.print(Text.assemble(cell(row["name"], "bold"), cell(f"  {source}")), soft_wrap=True)
    lines = Table.grid(padding=(0, 2))
    for label, text in (
        ("", row["summary"]),
        ("acts", row["stage"]),
        ("count", f"follows from {row['count']}"),
        ("sees the question", "yes" if row["query_aware"] else "no"),
        ("budget", f"--keep sets {row['budget']}"),
        *([("weights", "learned for one model: `framefusion train`, then --reducer")] if row["trained"] else []),
    ):
        lines.add_row(f"  {label}", cell(text))
    for number, (name, option) in enumerate(row["declared"].items()):
        text = f"{name}={in_words(option.get('default'))}: {option['accepts']}"
        lines.add_row("" if number else "  options", cell(text))
    out.print(lines)
