"""What a bounded memory keeps and what it forgets."""

import pytest

from framefusion.core.newest import Newest


def test_what_was_asked_for_last_stays():
    newest: Newest[int] = Newest(most=2)
    newest.keep("a", 1)
    newest.keep("b", 2)
    assert newest.get("a") == 1
    newest.keep("c", 3)
    assert [newest.get(key) for key in "abc"] == [1, None, 3]
    assert len(newest) == 2


def test_a_value_that_is_kept_again_takes_one_place():
    newest: Newest[int] = Newest(most=2)
    for key, value in (("a", 1), ("b", 2), ("a", 3), ("c", 4)):
        assert newest.keep(key, value) == value
    assert [newest.get(key) for key in "abc"] == [3, None, 4]


@pytest.mark.parametrize("value", [0, None, ""])
def test_empty_values_are_kept(value):
    newest: Newest[object] = Newest(most=None)
    newest.keep("a", value)
    assert newest.get("a") == value
    assert len(newest) == 1


def test_without_a_bound_nothing_is_forgotten():
    newest: Newest[int] = Newest(most=None)
    for number in range(1000):
        newest.keep(number, number)
    assert len(newest) == 1000
    assert newest.get(0) == 0
