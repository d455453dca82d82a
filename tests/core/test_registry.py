"""Names of methods: short ones, and what is said about those that nobody has."""

from __future__ import annotations

import pytest

import framefusion as ff
from framefusion.core import registry
from framefusion.core.errors import UnknownNameError


def test_a_short_name_is_the_method_and_only_the_long_one_is_listed():
    assert registry.method("atp") is registry.method("atp_llava") is ff.ATPLLaVA
    assert not {*registry.SHORT} & {one["name"] for one in ff.list_methods()}
    assert {*registry.SHORT.values()} <= {one["name"] for one in ff.list_methods()}


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("temporal", "`temporal_ward`"),
        ("frame", "`frame_sample` or `framefusion`"),
        ("divprun", "`divprune`"),
        ("llava", "`llava_mini`"),
    ],
)
def test_a_name_that_was_begun_is_completed_in_the_hint(word, hint):
    with pytest.raises(UnknownNameError) as raised:
        registry.method(word)
    assert f"did you mean {hint}?" in str(raised.value)


def test_no_name_lists_them_all():
    with pytest.raises(UnknownNameError, match="known: adaptprune"):
        registry.method("")
