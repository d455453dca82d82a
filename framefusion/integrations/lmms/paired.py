"""Two scores per question, dense and reduced: what the reduction cost, and how sure one can be."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from framefusion.evaluation import paired as evaluation
from framefusion.evaluation.paired import Interval, sign_test

DRAWS = 10_000
CONFIDENCE = 0.95
# What tasks call the score of a question in the record they keep of it; "0" is NExT-QA's WUPS without a threshold.
SCORES = ("score", "acc", "accuracy", "correct", "exact_match", "0")
PREDICTED = ("pred_answer", "pred", "parsed_pred", "prediction")
EXPECTED = ("answer", "gt_answer", "ground_truth", "target", "label")


@dataclass(frozen=True)
class Paired:
    """n questions answered twice.

    dense, reduced: mean scores. difference: reduced minus dense. low, high: 95 % interval of the difference, by drawing
    questions with replacement. p_value: two-sided, of differences at least as large if the two runs were exchangeable
    question by question. better, worse: questions on which the reduced run scored higher, lower.
    """

    n: int
    dense: float
    reduced: float
    difference: float
    low: float
    high: float
    p_value: float
    better: int
    worse: int


def compare(dense: Sequence[float], reduced: Sequence[float], seed: int = 0) -> Paired:
    """dense, reduced: scores of the same questions in the same order, at least one."""
    return _compared(dense, reduced, seed)[0]


def against(dense: Sequence[float], reduced: Sequence[float], seed: int = 0) -> evaluation.Paired:
    """The same in the words of an evaluation: the reduced run first, with the share of the dense score that is left."""
    found, (low, high) = _compared(dense, reduced, seed)
    share = found.reduced / found.dense if found.dense else math.nan
    return evaluation.Paired(
        difference=Interval(found.difference, found.low, found.high),
        share=Interval(share, low, high),
        wins=found.better,
        losses=found.worse,
        p_value=found.p_value,
    )


def mean_of(scores: Sequence[float], seed: int = 0) -> Interval:
    """Mean of at least one score, with Wilson's interval where they are right or wrong, else by drawing questions."""
    if set(scores) <= {0, 1}:
        return evaluation.proportion([bool(score) for score in scores])
    values = np.asarray(scores, float)
    return Interval(float(values.mean()), *_ends(_resampled(values[:, None], np.random.default_rng(seed))[:, 0]))


def _compared(dense: Sequence[float], reduced: Sequence[float], seed: int) -> tuple[Paired, tuple[float, float]]:
    """The comparison, and the interval of reduced over dense; NaN without a dense score above 0."""
    before, after = np.asarray(dense, float), np.asarray(reduced, float)
    if before.shape != after.shape or not before.size:
        raise ValueError(f"{before.size} dense and {after.size} reduced scores cannot be paired")
    change = after - before
    draw = np.random.default_rng(seed)
    means = _resampled(np.stack([before, change], 1), draw)
    low, high = _ends(means[:, 1])
    left = means[means[:, 0] > 0]
    found = Paired(
        n=int(change.size),
        dense=float(before.mean()),
        reduced=float(after.mean()),
        difference=float(change.mean()),
        low=low,
        high=high,
        p_value=_p_value(change[change != 0], draw),
        better=int((change > 0).sum()),
        worse=int((change < 0).sum()),
    )
    return found, _ends(1 + left[:, 1] / left[:, 0])


def _resampled(columns: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    """(n, C) values of n questions -> (DRAWS, C) means over n questions drawn with replacement."""
    count = len(columns)
    return np.array([columns[draw.integers(count, size=count)].mean(0) for _ in range(DRAWS)])


def _ends(draws: np.ndarray) -> tuple[float, float]:
    """The interval that holds `CONFIDENCE` of them."""
    if not draws.size:
        return math.nan, math.nan
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(draws, [tail, 1 - tail])
    return float(low), float(high)


def _p_value(change: np.ndarray, draw: np.random.Generator) -> float:
    """Sign-flip test on the differences that are not 0; exact (McNemar's) where all have one size."""
    if not change.size:
        return 1.0
    sizes = np.abs(change)
    if np.allclose(sizes, sizes[0]):
        return sign_test(int((change > 0).sum()), int((change < 0).sum()))
    signs = (np.where(draw.random(change.size) < 0.5, -1.0, 1.0) for _ in range(DRAWS))
    extreme = sum(abs(float(sign @ change)) >= abs(float(change.sum())) - 1e-12 for sign in signs)
    return (extreme + 1) / (DRAWS + 1)


def score_of(value: Any) -> float | None:
    """The score of one question from what a task recorded for it; None where it cannot be told."""
    if isinstance(value, bool | int | float):
        return float(value)
    if not isinstance(value, Mapping):
        return None
    for key in SCORES:
        if isinstance(value.get(key), bool | int | float):
            return float(value[key])
    predicted = next((value[key] for key in PREDICTED if key in value), None)
    expected = next((value[key] for key in EXPECTED if key in value), None)
    if predicted is None or expected is None:
        return None
    return float(str(predicted).strip().lower() == str(expected).strip().lower())
