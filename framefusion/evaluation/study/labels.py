"""How rows are named in tables and figures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from framefusion.evaluation.cells import DENSE
from framefusion.evaluation.study.frontier import largest_cache
from framefusion.evaluation.study.rows import Row

if TYPE_CHECKING:
    from framefusion.evaluation.study.run import Study


def about(found: Study) -> list[str]:
    """How many questions and cells, and what else is known about them."""
    seed = [] if found.seed is None else [f"seed {found.seed}"]
    chance = [] if found.chance is None else [f"chance {found.chance:.1%}"]
    return [f"{found.samples} questions per cell", *seed, f"{len(found.rows)} cells", *chance]


def methods_of(rows: Sequence[Row]) -> list[str]:
    """Methods in the study's order, the dense model left out where there is any other."""
    found = list(dict.fromkeys(row.method for row in rows))
    return [method for method in found if method != DENSE] or found


def column_of(width: str) -> str:
    """ "4" of a library, "4*" simulated."""
    return width.removeprefix("int").replace("sim", "") + ("*" if width.startswith("sim") else "")


def title_of(weights: str, activations: str, attention: str | None) -> str:
    words = f"weights {column_of(weights)}, activations {column_of(activations)}"
    return words + (f", {attention}" if attention else "")


def share_of_all(row: Row, rows: Sequence[Row]) -> float:
    """Bytes of a row's cache as a share of the largest."""
    return row.kv_bytes / largest_cache(rows)
