"""`framefusion models`: which model families can be reduced, where, and why others cannot."""

from __future__ import annotations

from typing import Annotated

from rich.table import Column, Table

from framefusion.cli.console import JSON_OPTION, note, note_broken, out, print_json
from framefusion.core.registry import families
from framefusion.core.text import cell
from framefusion.models.table import listing


def models(json: Annotated[bool, JSON_OPTION] = False) -> None:
    """List the model families, by the `model_type` of their configuration."""
    rows = list(listing())
    note_broken(families)
    if json:
        print_json(rows)
        return
    table = Table(Column("name", no_wrap=True), "supported", "points, or why not", "rule", "threshold")
    for row in rows:
        threshold, rule = row["similarity_lower_bound"], "own" if row["rule"] else ""
        told = row["reason"] or ", ".join(row["points"])
        table.add_row(
            cell(row["name"]),
            "yes" if row["supported"] else "no",
            cell(told),
            rule,
            "" if threshold is None else str(threshold),
        )
    out.print(table)
    note(
        "any other model of the same shape works by its placeholder tokens; calibrate the threshold for it, "
        "with the number of frames you will use"
    )
