"""Arithmetic on lists of floats, for references that must be read rather than run fast."""

from __future__ import annotations

from math import sqrt

Vector = list[float]


def dot(a: Vector, b: Vector) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


def cosine(a: Vector, b: Vector) -> float:
    """0 beside a zero vector."""
    norm = sqrt(dot(a, a)) * sqrt(dot(b, b))
    return dot(a, b) / norm if norm > 0 else 0.0


def unit(a: Vector) -> Vector:
    norm = sqrt(dot(a, a))
    return [x / norm for x in a] if norm > 0 else list(a)


def mean(vectors: list[Vector]) -> Vector:
    return [sum(column) / len(vectors) for column in zip(*vectors, strict=True)]


def squared_distance(a: Vector, b: Vector) -> float:
    return sum((x - y) ** 2 for x, y in zip(a, b, strict=True))
