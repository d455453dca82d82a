"""DyCoke's temporal stage, frame by frame, for clips of any length."""

from __future__ import annotations

from math import floor

from tests.reference.vectors import Vector, cosine

NOBODY = -2.0


def quotas(frames: list[int], keep: float | int) -> list[int]:
    """Tokens each frame keeps; the first of every four keeps all, the others share what is left of the budget."""
    numbers = sorted(set(frames))
    sizes = [frames.count(number) for number in numbers]
    budget = min(keep, len(frames)) if isinstance(keep, int) else keep * len(frames)
    whole = sum(size for index, size in enumerate(sizes) if index % 4 == 0)
    rest = len(frames) - whole
    share = max(0.0, budget - whole) / rest if rest else 0.0
    return [size if index % 4 == 0 else floor(share * size + 1e-9) for index, size in enumerate(sizes)]


def kept(frames: list[int], places: list[int], values: list[Vector], keep: float | int) -> list[int]:
    """frames, places: frame and cell of each token of one clip, in prompt order."""
    numbers = sorted(set(frames))
    tokens = [[token for token, frame in enumerate(frames) if frame == number] for number in numbers]
    stay: list[int] = []
    for index, quota in enumerate(quotas(frames, keep)):
        position = index % 4
        if position == 0:
            stay += tokens[index]
            continue
        partner_frame = tokens[index - 2] if position == 2 else tokens[index - 1]
        likeness = {}
        for token in tokens[index]:
            partner = [other for other in partner_frame if places[other] == places[token]]
            likeness[token] = cosine(values[token], values[partner[0]]) if partner else NOBODY
        stay += sorted(likeness, key=lambda token: likeness[token])[:quota]
    return sorted(stay)
