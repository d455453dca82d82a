"""What the contract showed, run on a tiny model of every family: `python -m framefusion.testing.conformance`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

POINTS = ("prompt", "before a layer", "between attention and MLP")
TABLE = Path(__file__).with_name("conformance.json")


@dataclass(frozen=True)
class Row:
    """One architecture.

    name: its `model_type`. model: its class in transformers. points: where a plan may act.
    reason: why it cannot be reduced, "" where it can.
    pictures: whether the prompt's pictures went through its vision tower; random features stood for them elsewhere.
    video, stills: what the oracle says of its layout on prompts of its own processor, "" where it has not looked.
    encoding: whether its tower leaves out units that do not change, "" where nobody has looked.
    named: whether its configuration says which tokens are visual; `layout=` has to say it elsewhere.
    """

    name: str
    model: str
    supported: bool
    points: tuple[str, ...] = ()
    reason: str = ""
    pictures: bool = False
    named: bool = True
    video: str = ""
    stills: str = ""
    encoding: str = ""


def read_table() -> dict[str, Row]:
    """Rows by name, in order."""
    found = json.loads(TABLE.read_text(encoding="utf-8"))["families"]
    return {row["name"]: Row(**{**row, "points": tuple(row["points"])}) for row in found}


def table_version() -> str:
    """The release of transformers the table was made with."""
    return json.loads(TABLE.read_text(encoding="utf-8"))["transformers"]


def write_table(rows: Iterable[Row]) -> None:
    import transformers

    made = {"transformers": transformers.__version__, "families": list(map(asdict, rows))}
    TABLE.write_text(json.dumps(made, indent=1) + "\n", encoding="utf-8")


def listing() -> Iterator[dict[str, Any]]:
    """Every architecture of the table and every family with a file of its own, as `framefusion models` shows them."""
    from framefusion.core.registry import families, family_of

    table, named = read_table(), dict(families.loaded())
    for name in sorted({*table, *named} - {*families.broken}):
        family, row = family_of(name), table.get(name)
        yield {
            "name": name,
            "supported": row.supported if row else family.tested,
            "points": list(row.points if row else POINTS if family.tested else ()),
            "reason": row.reason if row else "" if family.tested else UNVERIFIED,
            "rule": name in named,
            "video": "frames as images" if family.video_as_images else "video",
            "video_layout": row.video if row else "",
            "picture_layout": row.stills if row else "",
            "encoding": row.encoding if row else "",
            "similarity_lower_bound": family.similarity_lower_bound,
        }


UNVERIFIED = "shape-tested, real code unverified"
