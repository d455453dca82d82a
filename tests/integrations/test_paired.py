"""The paired test against values worked out by hand, and scores from the records real tasks keep."""

from __future__ import annotations

import numpy as np
import pytest

from framefusion.integrations.lmms.paired import compare, score_of


def test_equal_runs_differ_by_nothing():
    found = compare([1, 0, 1], [1, 0, 1])
    assert (found.difference, found.low, found.high, found.p_value) == (0, 0, 0, 1.0)
    assert (found.better, found.worse) == (0, 0)


def test_mcnemar_by_hand():
    # 8 lost, 1 gained: P(at most 1 of 9) = (1 + 9) / 512, two-sided 20 / 512.
    dense, reduced = [1] * 8 + [0] + [1] * 20, [0] * 8 + [1] + [1] * 20
    found = compare(dense, reduced)
    assert found.p_value == pytest.approx(20 / 512)
    assert (found.n, found.better, found.worse) == (29, 1, 8)
    assert found.difference == pytest.approx(-7 / 29)
    assert found.low < found.difference < found.high < 0.0


def test_graded_scores_use_random_signs():
    draw = np.random.default_rng(0)
    dense = draw.normal(size=60)
    assert compare(dense, dense + draw.normal(0.5, 0.5, 60)).p_value < 0.001
    assert compare(dense, dense + draw.normal(0.0, 1.0, 60)).p_value > 0.05


def test_the_interval_narrows_with_questions():
    few, many = (compare([1, 0] * n, [0, 0] * n) for n in (10, 1000))
    assert few.high - few.low > 3 * (many.high - many.low)


def test_the_same_scores_give_the_same_interval():
    assert compare([1, 0, 1, 1], [0, 0, 1, 1]) == compare([1, 0, 1, 1], [0, 0, 1, 1])


def test_scores_that_do_not_pair_are_refused():
    with pytest.raises(ValueError, match="2 dense and 1 reduced"):
        compare([1, 0], [1])
    with pytest.raises(ValueError):
        compare([], [])


RECORDS = {
    "number": (0.25, 0.25),
    "NExT-QA, choices": (True, 1.0),
    "VideoMME": ({"question_id": "1-1", "pred_answer": "A", "answer": "B", "score": 0.0, "videoID": "x"}, 0.0),
    "MVBench": ({"pred_answer": "(A)", "gt_answer": "A", "score": 1}, 1.0),
    "EgoSchema, subset": ({"pred": 3, "ground_truth": "3"}, 1.0),
    "NExT-QA, open": ({"0": 41.5, "0.9": 20.0, "qtype": "CH"}, 41.5),
    "EgoSchema, hidden answers": ({"6ebe-1": 2}, None),
    "words": ("A", None),
}


@pytest.mark.parametrize("case", RECORDS)
def test_score_of_a_record(case):
    record, expected = RECORDS[case]
    assert score_of(record) == expected
