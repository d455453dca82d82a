"""The page of trained systems says what its rows say."""

from __future__ import annotations

import json

from scripts import trained_comparison as script


def test_tables_are_those_of_the_rows():
    rows = [json.loads(line) for line in script.ROWS.read_text(encoding="utf-8").splitlines()]
    page = script.PAGE.read_text(encoding="utf-8")
    assert rows and page == script.placed(page, script.tables(rows)), "run `python -m scripts.trained_comparison`"


def test_a_row_is_made_of_what_the_command_prints():
    score = {"accuracy": 0.5, "interval": [0.25, 0.75], "by_kind": {"count": 0.5}, "kept_fraction": 0.1, "cost": 0.0625}
    best = score | {"accuracy": 0.75, "label": "uniform", "options": {}}
    worse = score | {"label": "random", "options": {}}
    pair = {"difference": 0.25, "difference_interval": [0.0, 0.5]}
    found = {
        "model": "m",
        "samples": 4,
        "seed": 9,
        "chance": 0.2,
        "chance_by_kind": {"count": 0.2},
        "dense": score,
        "entries": [score | {"label": "pvc", "options": {}}, worse, best],
        "comparisons": [pair | {"control": name, "by_kind": {"count": pair}} for name in ("random", "uniform")],
    }
    row = script.row_of(found, 7.0)
    assert [entry["label"] for entry in row["others"]] == ["uniform", "random"]
    made = script.tables([row])
    assert "| `uniform` | 32.0 | 75.0 (25.0 to 75.0) | +25.0 (+0.0 to +50.0) |" in made
    assert "Ahead of the best of the others, `uniform`, by +25.0 points (+0.0 to +50.0)." in made
    assert "Its training took 7 CPU minutes." in made
    assert "| count | 20 | 50 | 50 | 75 | 50 |" in made and made.startswith("### `pvc`")
