"""The page of all methods is made of what one run printed."""

from __future__ import annotations

from scripts import all_methods_page


def test_rows_are_taken_from_what_the_command_prints() -> None:
    score = {"accuracy": 0.9, "interval": [0.8, 1.0], "by_kind": {"count": 0.9}}
    entry = score | {"options": {}, "target": 0.3, "cost": 0.31, "decision_ms": 1.25}
    ends = {"difference": 0.1, "difference_interval": [-0.1, 0.2]}
    found = {
        "model": "m", "samples": 12, "seed": 9, "chance": 0.2, "notes": ["one is left out"], "dense": score,
        "entries": [entry | {"label": "evs", "role": "method"}, entry | {"label": "random", "role": "control"}],
        "comparisons": [ends | {"method": "evs", "control": "random", "target": 0.3}],
    }  # fmt: skip
    text = all_methods_page.page(all_methods_page.rows(found, "framefusion evaluate --all"))
    assert "| `evs` | 31.0% | 90.0% (80 to 100) | +10.0 (-10.0 to +20.0) | 1.2 ms |" in text
    assert "| *random* | 31.0% | 90.0% (80 to 100) |  | 1.2 ms |" in text
    assert "12 questions of seed 9" in text and "- one is left out" in text
