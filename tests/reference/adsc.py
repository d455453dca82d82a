"""ADSC's rule, plainly (2602.12618): walk through the tokens and keep one per stride."""

from __future__ import annotations

from fractions import Fraction


def survivors(tokens: list[int], count: int) -> list[int]:
    """`count` of the tokens, the first one at or before each multiple of the exact stride."""
    stride = Fraction(len(tokens), count)
    kept, mark = [], Fraction(0)
    while len(kept) < count:
        kept.append(tokens[int(mark)])
        mark += stride
    return kept
