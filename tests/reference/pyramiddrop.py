"""PyramidDrop, plainly (2410.17247): at every stage a fixed share of what is left goes, ranked by attention."""

from __future__ import annotations

import math


def counts(total: int, ratio: float, stages: int) -> list[int]:
    """Tokens after each stage when a stage keeps `ratio` of what it finds; floors, at least 1."""
    return [max(1, math.floor(total * ratio ** (stage + 1))) for stage in range(stages)]


def survivors(attentions: list[list[float]], lengths: list[int]) -> list[int]:
    """attentions: per stage, the last query's attention to every original token. Returns what the last stage leaves."""
    alive = list(range(len(attentions[0])))
    for attention, length in zip(attentions, lengths, strict=True):
        ranked = sorted(alive, key=lambda token: (-attention[token], token))
        alive = sorted(ranked[:length])
    return alive
