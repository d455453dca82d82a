"""With a given memory for keys and values: drop tokens, or bits?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from framefusion.evaluation.study.rows import Row

# Memory for the cache, as shares of what the dense model keeps in 16 bits.
SHARES = (1.0, 0.5, 0.35, 0.25, 0.175, 0.125, 0.0875, 0.0625, 0.045, 0.03)

Plane = tuple[str, str, str | None]
"""Widths of weights and activations, and the attention in 8 bits if there is one."""


@dataclass(frozen=True)
class Best:
    """The best that fits into a memory. share, limit: of the cache, relative and in bytes.

    chosen: the row with the most right answers among every other question. unseen: its accuracy on the questions that
    did not choose it, which is no better than it should be for having been chosen.
    """

    share: float
    limit: float
    chosen: Row
    unseen: float


def frontier(rows: Sequence[Row], plane: Plane, shares: Sequence[float] = SHARES) -> list[Best]:
    """For each memory the best pair of tokens kept and bits, everything else being alike.

    A memory that holds no row is left out; of rows as good as each other the smallest counts.
    """
    group = on_plane(rows, plane)
    whole = largest_cache(rows)
    found = []
    for share in shares:
        # A per mille more than the limit still fits: answers differ in length.
        fitting = [row for row in group if row.kv_bytes <= share * whole * 1.001]
        if fitting:
            chosen = max(fitting, key=lambda row: (row.halves[0], -row.kv_bytes))
            found.append(Best(share, share * whole, chosen, chosen.halves[1]))
    return found


def largest_cache(rows: Sequence[Row]) -> float:
    """Bytes of what the dense model keeps, in 16 bits if the study has that."""
    return max(row.kv_bytes for row in rows)


def planes(rows: Sequence[Row]) -> list[Plane]:
    """Those the study has, in its order."""
    return list(dict.fromkeys(map(plane_of, rows)))


def plane_of(row: Row) -> Plane:
    return row.weights, row.activations, row.attention


def on_plane(rows: Sequence[Row], plane: Plane) -> list[Row]:
    return [row for row in rows if plane_of(row) == plane]


def one_axis(rows: Sequence[Row], plane: Plane, method: str) -> tuple[list[Row], list[Row]]:
    """Rows that only drop bits, and rows of `method` that only drop tokens, from the smallest cache up."""
    group = on_plane(rows, plane)
    bits = [row for row in group if row.budget == 1.0]
    tokens = [row for row in group if row.kv == "16" and (row.method == method or row.budget == 1.0)]
    return sorted(bits, key=lambda row: row.kv_bytes), sorted(tokens, key=lambda row: row.kv_bytes)
