"""Ranks and Spearman's correlation against a count by hand, and against scipy where it is installed."""

from __future__ import annotations

import pytest
import torch

from framefusion.evaluation.analysis.rank import ranks, spearman
from tests.reference import rank as reference


def rows(ties):
    values = torch.randn(4, 40, generator=torch.Generator().manual_seed(3))
    return (values * 3).round() if ties else values


@pytest.mark.parametrize("ties", [False, True])
def test_ranks_and_correlation(ties):
    values = rows(ties)
    assert ranks(values[0]).tolist() == reference.ranks(values[0].tolist())
    found = spearman(values)
    for one in range(4):
        for two in range(4):
            expected = reference.spearman(values[one].tolist(), values[two].tolist())
            assert float(found[one, two]) == pytest.approx(expected, abs=1e-9)


def test_against_scipy():
    stats = pytest.importorskip("scipy.stats", reason="scipy is not installed")
    values = rows(ties=True)
    assert spearman(values).numpy() == pytest.approx(stats.spearmanr(values.numpy(), axis=1).statistic, abs=1e-9)


def test_only_the_order_counts():
    values = torch.tensor([[0.1, 0.2, 0.3, 0.9], [-5.0, 0.0, 1.0, 100.0], [4.0, 3.0, 2.0, 1.0], [1.0, 1.0, 1.0, 1.0]])
    found = spearman(values)
    assert found[0, 1] == pytest.approx(1.0) and found[0, 2] == pytest.approx(-1.0)
    assert found[0, 3].isnan()
