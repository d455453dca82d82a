"""What the titles of an evaluation say about cost, and how many arms stand side by side."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from framefusion.cli.evaluation_table import beside, priced


def entries(target: float | None, *costs: float) -> Any:
    return [SimpleNamespace(target=target, score=SimpleNamespace(cost=cost)) for cost in costs]


@pytest.mark.parametrize(
    ("target", "costs", "title"),
    [
        (0.3, (0.3, 0.301, 0.29), "at cost 0.3"),
        (0.3, (0.5, 0.5), "asked at cost 0.3, measured 50%"),
        (0.3, (0.3, 0.5), "asked at cost 0.3, measured 30% to 50%"),
        (None, (0.62,), "as configured, at cost 62%"),
        (None, (0.4, 0.62), "as configured, at cost 40% to 62%"),
    ],
)
def test_a_title_says_what_was_measured(target: float | None, costs: tuple[float, ...], title: str) -> None:
    assert priced(entries(target, *costs)) == title


@pytest.mark.parametrize(
    ("width", "tables"),
    [
        (80, ["framefusion uniform random"]),
        (22, ["framefusion uniform", "random"]),
        (21, ["framefusion", "uniform random"]),
        (3, ["framefusion", "uniform", "random"]),
    ],
)
def test_no_name_of_an_arm_is_broken(width: int, tables: list[str]) -> None:
    arms: Any = [SimpleNamespace(label=label) for label in ("framefusion", "uniform", "random")]
    assert [" ".join(entry.label for entry in table) for table in beside(arms, width)] == tables
