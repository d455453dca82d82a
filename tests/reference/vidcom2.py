"""VidCom2, step by step, with the count made exact at the end."""

from __future__ import annotations

from math import exp

from tests.reference.vectors import Vector, mean, squared_distance, unit

SCALES = [2.0**power for power in range(-3, 2)]
TEMPERATURE = 0.01


def count(total: int, keep: float | int) -> int:
    wanted = keep if isinstance(keep, int) else round(keep * total)
    return min(total, max(1, wanted))


def half_of_the_channels(values: list[Vector]) -> list[Vector]:
    """The channels of lowest variance."""
    centre = mean(values)
    variance = [sum((value[d] - centre[d]) ** 2 for value in values) for d in range(len(centre))]
    steady = sorted(range(len(centre)), key=lambda d: variance[d])[: max(1, len(centre) // 2)]
    return [[value[d] for d in steady] for value in values]


def gaussian(a: Vector, b: Vector) -> float:
    return sum(exp(-squared_distance(a, b) / (2 * scale)) for scale in SCALES)


def shares(likeness: list[float], base: float) -> list[float]:
    """Share of its tokens each frame keeps, more where the frame is unlike its video."""
    peak = max(-value / TEMPERATURE for value in likeness)
    weights = [exp(-value / TEMPERATURE - peak) for value in likeness]
    soft = [weight / sum(weights) for weight in weights]
    average = sum(soft) / len(soft)
    return [min(1.0, base * (1.0 + value - average)) for value in soft]


def kept(frames: list[int], values: list[Vector], keep: float | int) -> list[int]:
    """frames: of each token of one clip."""
    total = count(len(frames), keep)
    direction = [unit(value) for value in half_of_the_channels(values)]
    video = mean(direction)
    groups = [[t for t, frame in enumerate(frames) if frame == number] for number in sorted(set(frames))]
    to_video = [gaussian(value, video) for value in direction]
    score = list(to_video)
    for group in groups:
        centre = mean([direction[token] for token in group])
        for token in group:
            score[token] += gaussian(direction[token], centre)
    base = keep if isinstance(keep, float) else total / len(frames)
    frame_shares = shares([sum(to_video[t] for t in group) / len(group) for group in groups], base)
    chosen: list[int] = []
    for group, share in zip(groups, frame_shares, strict=True):
        quota = max(1, round(share * len(group)))
        chosen += sorted(group, key=lambda token: score[token])[:quota]
    spare = sorted(set(range(len(frames))) - set(chosen), key=lambda token: score[token])
    return sorted((sorted(chosen, key=lambda token: score[token]) + spare)[:total])
