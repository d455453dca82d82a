"""Settings of a page and of the links to it."""

from __future__ import annotations

from dataclasses import replace
from urllib.parse import parse_qs

import pytest

from framefusion.core.errors import FrameFusionError
from framefusion.integrations.app.limits import QUESTION
from framefusion.integrations.app.settings import Settings, from_query

MODELS = ["a", "b"]
USUAL = Settings("a", "temporal_ward", 0.3, 8, "What happens?")


def test_a_link_brings_back_what_it_was_made_of():
    settings = Settings("b", "fastv", 0.5, 3, "Wo ist <b>ä & ö</b>? 100% #1")
    query = {name: values[0] for name, values in parse_qs(settings.query()).items()}
    assert from_query(query, USUAL, MODELS, 8) == (settings, None)
    assert from_query({}, USUAL, MODELS, 8) == (USUAL, None)


@pytest.mark.parametrize(
    "query",
    [
        {"model": "/etc"},
        {"method": "os:system"},
        {"method": "nothing"},
        {"budget": "7"},
        {"budget": "nan"},
        {"budget": "x"},
        {"frames": "9"},
        {"frames": "0"},
        {"frames": "1e9"},
        {"question": "x" * (QUESTION + 1)},
        {"question": "  "},
    ],
)
def test_what_is_not_offered_stays_as_usual_and_is_told(query):
    found, problem = from_query(query, USUAL, MODELS, 8)
    assert found == USUAL and isinstance(problem, FrameFusionError) and problem.what
    found, problem = from_query({**query, "model": "b"} | query, USUAL, MODELS, 8)
    assert problem is not None and found == replace(USUAL, model="a" if "model" in query else "b")


def test_a_name_of_a_module_is_not_imported(monkeypatch):
    monkeypatch.setattr("framefusion.core.registry.import_module", lambda name: pytest.fail(name))
    with pytest.raises(FrameFusionError):
        replace(USUAL, method="antigravity:Class").checked(MODELS, 8)


@pytest.mark.parametrize(("method", "option"), [("framefusion", "cost"), ("fastv", "keep")])
def test_the_budget_is_the_method_s_own(method, option):
    assert replace(USUAL, method=method, budget=0.25).reduction().options()[option] == 0.25
