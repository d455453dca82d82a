"""`framefusion models`: which model families have rules of their own."""

from __future__ import annotations

from typing import Annotated, Any

from rich.table import Table

from framefusion.cli.console import JSON_OPTION, note, out, print_json
from framefusion.registry import families

UNVERIFIED = "shape-tested, real code unverified"
POINTS = ["prompt", "before a layer", "between attention and MLP"]


def models(json: Annotated[bool, JSON_OPTION] = False) -> None:
    """List the model families, by the `model_type` of their configuration."""
    rows = [describe(name) for name in families]
    if json:
        print_json(rows)
        return
    table = Table("name", "supported", "video", "published threshold")
    for row in rows:
        threshold = row["similarity_lower_bound"]
        supported = "yes" if row["supported"] else row["reason"]
        table.add_row(row["name"], supported, row["video"], "" if threshold is None else str(threshold))
    out.print(table)
    note("any other model of the same shape works by its placeholder tokens; calibrate the threshold for it")


def describe(name: str) -> dict[str, Any]:
    family = families.load(name)
    return {
        "name": family.name,
        "supported": family.tested,
        "points": POINTS if family.tested else [],
        "reason": "" if family.tested else UNVERIFIED,
        "video": "frames as images" if family.video_as_images else "video",
        "similarity_lower_bound": family.similarity_lower_bound,
    }
