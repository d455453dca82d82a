"""Uniform stride, in words: cut the clip into `count` equal stretches and keep the token each one begins at."""

from __future__ import annotations

from math import floor


def count(total: int, keep: float | int) -> int:
    wanted = keep if isinstance(keep, int) else round(keep * total)
    return min(total, max(1, wanted))


def kept(total: int, keep: float | int) -> list[int]:
    wanted = count(total, keep)
    stride = total / wanted
    # A stretch may begin between two tokens; the small term keeps exact starts from falling just below themselves.
    return [floor(number * stride + 1e-6) for number in range(wanted)]
