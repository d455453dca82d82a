"""Whatever reads weights says in one sentence which are missing, nobody's, or of another size."""

from __future__ import annotations

import pytest

from framefusion.inference.answer.weight_names import differences

WANTED = {"a": (2,), "b": (2, 3), "c": (4,)}


@pytest.mark.parametrize(
    ("stored", "said"),
    [
        (WANTED, ""),
        ({"a": (2,), "b": (2, 3)}, "it lacks 1 weight: c"),
        ({}, "it lacks 3 weights: a, b, c"),
        ({**WANTED, "d": (1,)}, "it holds 1 weight that nothing reads: d"),
        ({**WANTED, "c": (5,)}, "1 weight of another size: c is [5], not [4]"),
        (WANTED | dict.fromkeys("defgh", ()), "it holds 5 weights that nothing reads: d, e, f and 2 more"),
        (
            {"a": (1,), "b": (2, 3), "d": (4,)},
            "it lacks 1 weight: c; it holds 1 weight that nothing reads: d; "
            "1 weight of another size: a is [1], not [2]",
        ),
    ],
)
def test_the_sentence(stored, said):
    assert differences(WANTED, stored) == said


def test_optional_weights_may_be_missing_or_there():
    assert differences(WANTED, {"a": (2,), "b": (2, 3), "x.c": (1,)}, lambda name: name.endswith("c")) == ""
    assert differences(WANTED, {**WANTED, "c": (1,)}, lambda name: name == "c")
