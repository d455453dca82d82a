"""Intervals and tests against slow references."""

from __future__ import annotations

import math
import random

import pytest

from framefusion.evaluation.paired import paired, proportion, sign_test
from tests.reference import paired as reference


def answers(count, first, second, seed=0):
    """Two lists of right and wrong that go together, and the kind of every question."""
    draw = random.Random(seed)
    hard = [draw.random() for _ in range(count)]
    return (
        [h < first + 0.1 * draw.random() for h in hard],
        [h < second + 0.1 * draw.random() for h in hard],
        [("colour", "count", "needle")[number % 3] for number in range(count)],
    )


@pytest.mark.parametrize(("first", "second"), [(0.9, 0.6), (0.5, 0.5), (0.2, 0.7)])
def test_intervals_are_those_of_the_plain_bootstrap(first, second):
    one, two, kinds = answers(60, first, second)
    found = paired(one, two, kinds)
    slow = list(reference.draws(one, two, kinds, resamples=4000))
    for interval, values in ((found.difference, [s[0] for s in slow]), (found.share, [s[1] for s in slow])):
        assert interval.low == pytest.approx(reference.quantile(values, 0.025), abs=0.025, rel=0.04)
        assert interval.high == pytest.approx(reference.quantile(values, 0.975), abs=0.025, rel=0.04)
    assert found.difference.value == pytest.approx((sum(one) - sum(two)) / 60)
    assert found.share.value == pytest.approx(sum(one) / sum(two))
    assert (found.wins, found.losses) == (
        sum(a and not b for a, b in zip(one, two, strict=True)),
        sum(b and not a for a, b in zip(one, two, strict=True)),
    )


def test_pairing_is_used():
    """The same accuracies on the same questions differ by nothing; shuffled against each other they may."""
    right = [True] * 30 + [False] * 30
    kinds = ["one"] * 60
    same = paired(right, right, kinds)
    assert (same.difference.low, same.difference.high) == (0.0, 0.0)
    apart = paired(right, right[::-1], kinds)
    assert apart.difference.value == 0.0 and apart.difference.high > 0.1


def test_kinds_are_strata():
    """Where each kind is all right or all wrong, no resample can differ."""
    found = paired([True] * 5 + [False] * 5, [False] * 10, ["a"] * 5 + ["b"] * 5)
    assert (found.difference.low, found.difference.value, found.difference.high) == (0.5, 0.5, 0.5)


@pytest.mark.parametrize("kinds", ["abcdefghijkl", "aaaaaaaaabbb"])
def test_few_questions_of_a_kind_leave_doubt(kinds):
    """Drawn apart, each question alone in its kind would come back as itself: an interval of no width."""
    found = paired([True] * 10 + [False] * 2, [False] * 2 + [True] * 10, list(kinds))
    assert found.difference.low < -0.2 < found.difference.value == 0.0 < 0.2 < found.difference.high
    assert found == paired([True] * 10 + [False] * 2, [False] * 2 + [True] * 10, ["one"] * 12)


@pytest.mark.parametrize("wins", range(6))
@pytest.mark.parametrize("losses", range(6))
def test_sign_test_counts_all_ways(wins, losses):
    assert sign_test(wins, losses) == pytest.approx(reference.sign_test(wins, losses))


@pytest.mark.parametrize(("right", "count"), [(0, 5), (5, 5), (3, 10), (97, 100)])
def test_wilson_ends_lie_z_standard_errors_away(right, count):
    found = proportion([True] * right + [False] * (count - right))
    assert found.value == right / count
    for end in (found.low, found.high):
        error = math.sqrt(end * (1 - end) / count)
        assert abs(found.value - end) == pytest.approx(1.959964 * error, abs=1e-6)
    assert 0 <= found.low <= found.value <= found.high <= 1


def test_nothing_to_compare():
    assert math.isnan(proportion([]).value) and math.isnan(paired([], [], []).difference.value)
    none_right = paired([True, False], [False, False], ["a", "a"])
    assert math.isnan(none_right.share.value) and none_right.difference.value == 0.5
