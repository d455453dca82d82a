"""Which choice a text names."""

from __future__ import annotations

import pytest

from framefusion.evaluation.answers import first_named, with_choices

COLOURS = ("red", "blue", "dark blue")
ORDERS = ("red blue cyan", "blue red cyan")


@pytest.mark.parametrize(
    ("text", "choices", "named"),
    [
        ("red", COLOURS, "red"),
        ("It is Blue.", COLOURS, "blue"),
        ("dark blue", COLOURS, "dark blue"),
        ("blue, not red", COLOURS, "blue"),
        ("reddish", COLOURS, None),
        ("", COLOURS, None),
        ("I cannot tell", COLOURS, None),
        ("There are three things", ("2", "3", "4"), "3"),
        ("13 or 4", ("3", "4"), "4"),
        ("2", ("one", "two"), "two"),
        ("red, blue and cyan", ORDERS, "red blue cyan"),
        ("First blue, then red, and then cyan", ORDERS, "blue red cyan"),
        ("top-left", ("top left", "top right"), "top left"),
        ("a+b", ("a+b", "a"), "a+b"),
    ],
)
def test_first_named(text, choices, named):
    assert first_named(text, choices) == named


def test_choices_are_written_out():
    assert with_choices("what colour?", ("red", "blue")) == "what colour? Answer with one of: red, blue."
