"""Ranks and Spearman's correlation, counted out."""

from __future__ import annotations

import math


def ranks(values):
    """Rank from 1; equal values share the mean of the ranks they take up."""
    return [sum(v < value for v in values) + (sum(v == value for v in values) + 1) / 2 for value in values]


def spearman(one, two):
    a, b = ranks(one), ranks(two)
    mean_a, mean_b = sum(a) / len(a), sum(b) / len(b)
    top = sum((x - mean_a) * (y - mean_b) for x, y in zip(a, b, strict=True))
    return top / math.sqrt(sum((x - mean_a) ** 2 for x in a) * sum((y - mean_b) ** 2 for y in b))
