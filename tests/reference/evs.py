"""EVS over embeddings: rank all cells of a clip by how much they changed since the frame before."""

from __future__ import annotations

from tests.reference.vectors import Vector, cosine

FIRST = 255.0
"""Dissimilarity of cells that have no frame before."""


def count(frames: list[int], keep: float | int) -> int:
    wanted = keep if isinstance(keep, int) else int(keep * len(frames))
    first_frame = sum(frame == min(frames) for frame in frames)
    return min(len(frames), max(first_frame, wanted))


def kept(frames: list[int], places: list[int], values: list[Vector], keep: float | int) -> list[int]:
    """frames, places: frame and cell of each token of one clip, in prompt order."""
    change = []
    for token, place in enumerate(places):
        earlier = [other for other in range(token) if places[other] == place]
        change.append(1.0 - cosine(values[token], values[earlier[-1]]) if earlier else FIRST)
    ranking = sorted(range(len(frames)), key=lambda token: -change[token])
    return sorted(ranking[: count(frames, keep)])
