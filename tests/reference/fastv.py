"""FastV, plainly (2403.06764): rank by the last query's attention, keep round(N * (1 - R))."""

from __future__ import annotations


def survivors(attention: list[float], keep: float) -> list[int]:
    """attention: of the last query row, averaged over heads, per token of one clip."""
    total = len(attention)
    count = min(total, max(1, round(total * keep)))
    ranked = sorted(range(total), key=lambda token: (-attention[token], token))
    return sorted(ranked[:count])
