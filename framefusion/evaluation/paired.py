"""How sure an accuracy is, and how sure a difference between two ways to answer the same questions is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

CONFIDENCE = 0.95
RESAMPLES = 10_000
FEWEST = 5
"""Questions of a kind from which on kinds are drawn apart. One or two, drawn again, can only be what they were."""


@dataclass(frozen=True)
class Interval:
    """A value with the ends of its 95 % interval; NaN where there is nothing to say."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Paired:
    """Two ways to answer the same questions, the first against the second.

    difference: of the accuracies, first minus second. share: first over second. wins, losses: questions that only the
    first, or only the second, answered right. p_value: two-sided exact sign test on those (McNemar's exact test).
    """

    difference: Interval
    share: Interval
    wins: int
    losses: int
    p_value: float


def proportion(correct: Sequence[bool]) -> Interval:
    """Share of right answers with Wilson's interval, which stays sensible at 0 and 1."""
    count = len(correct)
    if count == 0:
        return Interval(math.nan, math.nan, math.nan)
    share, z = sum(correct) / count, NormalDist().inv_cdf(0.5 + CONFIDENCE / 2)
    centre = (share + z * z / (2 * count)) / (1 + z * z / count)
    reach = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count)) / (1 + z * z / count)
    return Interval(share, max(0.0, min(share, centre - reach)), min(1.0, max(share, centre + reach)))


def paired(
    first: Sequence[bool], second: Sequence[bool], strata: Sequence[str], resamples: int = RESAMPLES, seed: int = 0
) -> Paired:
    """Compare two lists of right and wrong over the same n questions.

    strata: (n,) the kind of each question; every resample draws as many questions of each kind as there are. Where a
    kind has fewer than `FEWEST`, all are drawn together.

    The bootstrap only needs to know how often each of the four outcomes (right or wrong, twice) is drawn, so a resample
    is one multinomial draw per kind and costs nothing.
    """
    count = len(first)
    if count == 0:
        nothing = Interval(math.nan, math.nan, math.nan)
        return Paired(nothing, nothing, 0, 0, 1.0)
    outcome = 2 * np.asarray(first, dtype=int) + np.asarray(second, dtype=int)
    _, kinds, sizes = np.unique(np.asarray(strata), return_inverse=True, return_counts=True)
    if sizes.min() < FEWEST:
        kinds = np.zeros(count, dtype=int)
    draw, totals = np.random.default_rng(seed), np.zeros((resamples, 4))
    for kind in range(kinds.max() + 1):
        seen = np.bincount(outcome[kinds == kind], minlength=4)
        totals += draw.multinomial(seen.sum(), seen / seen.sum(), size=resamples)
    whole = np.bincount(outcome, minlength=4)
    losses, wins = int(whole[1]), int(whole[2])
    return Paired(
        _interval(_difference(whole[None])[0], _difference(totals)),
        _interval(_share(whole[None])[0], _share(totals)),
        wins,
        losses,
        sign_test(wins, losses),
    )


def sign_test(wins: int, losses: int) -> float:
    """Two-sided probability of a split at least this uneven when either side is equally likely."""
    count = wins + losses
    tail = sum(math.comb(count, number) for number in range(min(wins, losses) + 1))
    return min(1.0, 2 * tail / 2**count)


def _difference(totals: np.ndarray) -> np.ndarray:
    """(R, 4) counts of outcomes -> (R,) difference of the accuracies."""
    return (totals[:, 2] - totals[:, 1]) / totals.sum(1)


def _share(totals: np.ndarray) -> np.ndarray:
    first, second = totals[:, 2] + totals[:, 3], totals[:, 1] + totals[:, 3]
    return np.divide(first, second, out=np.full(len(totals), math.nan), where=second > 0)


def _interval(value: float, draws: np.ndarray) -> Interval:
    draws = draws[~np.isnan(draws)]
    if not draws.size:
        return Interval(float(value), math.nan, math.nan)
    low, high = np.quantile(draws, [0.5 - CONFIDENCE / 2, 0.5 + CONFIDENCE / 2])
    return Interval(float(value), float(low), float(high))
