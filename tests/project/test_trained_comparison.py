"""The page of trained reducers is made of what a run printed, and the committed page of the committed rows."""

from __future__ import annotations

import json

import pytest

from scripts import trained_comparison as made


def test_rows_are_taken_from_what_the_command_prints() -> None:
    score = {"accuracy": 0.9, "interval": [0.8, 1.0], "by_kind": {"count": 0.9}, "kept_fraction": 0.02, "cost": 1 / 64}
    ends = {"difference": 0.125, "difference_interval": [0.1, 0.15]}
    found = {
        "model": "m", "samples": 12, "seed": 9, "chance": 0.2, "chance_by_kind": {"count": 0.2}, "dense": score,
        "entries": [
            score | {"label": "llava_mini", "method": "llava_mini", "options": {}},
            score | {"label": "random", "method": "random", "options": {}, "accuracy": 0.5},
            score | {"label": "divprune", "method": "divprune", "options": {}, "accuracy": 0.7},
        ],
        "comparisons": [ends | {"control": name, "by_kind": {"count": ends}} for name in ("random", "divprune")],
    }  # fmt: skip
    row = made.row(found, 13.4, "divprune,random:seed=2")
    assert [entry["label"] for entry in row["without"]] == ["divprune", "random"]
    text = made.page([row])
    assert "| `divprune` | 8.0 | 70.0% (80 to 100) | +12.5 (+10.0 to +15.0) |" in text
    assert "| count | 90% | 90% | 90% | +12.5 (+10.0 to +15.0) |" in text
    assert "13 minutes of one core" in text and "--compare divprune,random:seed=2 --samples 12 --seed 9" in text


def test_a_run_of_every_method_is_a_table_of_the_tokens_it_came_to() -> None:
    def entry(label: str, target: float, cost: float, accuracy: float) -> dict[str, object]:
        return {"label": label, "target": target, "cost": cost, "accuracy": accuracy, "interval": [0, 1], "by_kind": {}}

    entries = [
        entry("random", 1 / 64, 1 / 64, 0.4), entry("random", 1 / 128, 1 / 128, 0.3),
        entry("fastv", 1 / 64, 1 / 6, 0.5), entry("fastv", 1 / 128, 1 / 6, 0.5),
    ]  # fmt: skip
    found = {"model": "m", "samples": 24, "seed": 9, "dense": {"accuracy": 0.975}, "entries": entries}
    text = made.page([made.every(found)])
    assert "$ framefusion evaluate --all --sweep 0.015625,0.0078125 --samples 24 --seed 9\n" in text
    assert "| | asked for 8 tokens | right | asked for 4 tokens | right |\n" in text and "dense 97.5%" in text
    assert "| `fastv` | 85.3 | 50.0% | 85.3 | 50.0% |\n| `random` | 8.0 | 40.0% | 4.0 | 30.0% |\n" in text


def test_the_page_says_what_the_rows_say() -> None:
    if not made.ROWS.is_file():
        pytest.fail("the rows of the page are not committed")
    rows = [json.loads(line) for line in made.ROWS.read_text(encoding="utf-8").splitlines()]
    assert made.page(rows) == made.PAGE.read_text(encoding="utf-8")
