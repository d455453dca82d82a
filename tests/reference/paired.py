"""The paired bootstrap written out: draw questions with replacement within each kind, one by one, again and again."""

from __future__ import annotations

import random


def draws(first, second, strata, resamples, seed=0):
    """Pairs (difference of the accuracies, their ratio or None) of every resample."""
    chance = random.Random(seed)
    kinds = {kind: [i for i, name in enumerate(strata) if name == kind] for kind in strata}
    for _ in range(resamples):
        drawn = [chance.choice(members) for members in kinds.values() for _ in members]
        one, two = sum(first[i] for i in drawn), sum(second[i] for i in drawn)
        yield (one - two) / len(drawn), one / two if two else None


def quantile(values, share):
    """Linear between the neighbouring order statistics."""
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (place - low) * (ordered[high] - ordered[low])


def sign_test(wins, losses):
    """Share of all 2 ** n ways in which n coins can fall that are at least this uneven."""
    count, gap = wins + losses, abs(wins - losses)
    ways = [bin(way).count("1") for way in range(2**count)]
    return sum(abs(2 * heads - count) >= gap for heads in ways) / len(ways)
