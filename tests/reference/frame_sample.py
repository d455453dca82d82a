"""Frame subsampling, in words: number the frames that are there, keep the first of each of `count` equal stretches."""

from __future__ import annotations

from tests.reference import uniform


def kept(frames: list[int], keep: float | int) -> list[int]:
    """frames: of each token of one clip. Returns the tokens that stay."""
    present = sorted(set(frames))
    chosen = {present[index] for index in uniform.kept(len(present), keep)}
    return [token for token, frame in enumerate(frames) if frame in chosen]
