"""What an annotation declares: kinds, limits, words and descriptions, also in methods of other packages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
import pytest

from framefusion.core.errors import OptionError
from framefusion.core.method import Method, MethodFacts
from framefusion.core.options import Count, Interval, OneOf, checked, options_of, settle
from framefusion.core.options.option import shown
from framefusion.testing.methods import check_options

if TYPE_CHECKING:
    from framefusion.core.options import Keep as OnlyForTypeCheckers

TAKEN: list[tuple[Any, Any, Any]] = [
    (Annotated[float, Interval("(0, 1]")], 1, 1.0),
    (Annotated[float, Interval("[0, 1)")] | None, None, None),
    (Annotated[float | None, Interval("[0, 1)")], 0.0, 0.0),
    (Count | Annotated[float, Interval("(0, 1)")], 3, 3),
    (Annotated[float, Interval("(0, 9)")] | Count, 3, 3),
    (Literal["a", "b"], "a", "a"),
    (tuple[Count, ...], [1, np.int64(2)], (1, 2)),
    (tuple[Count | None, ...], [1, None], (1, None)),
    (bool, np.bool_(True), True),
    (Mapping[str, int], {}, {}),
    (Any, "anything", "anything"),
]


@pytest.mark.parametrize(("declaration", "value", "kept"), TAKEN, ids=[str(number) for number in range(len(TAKEN))])
def test_what_is_taken(declaration: Any, value: Any, kept: Any) -> None:
    found = checked("x", declaration, value)
    assert found == kept and type(found) is type(kept)


REFUSED: list[tuple[Any, Any, str]] = [
    (Annotated[float, Interval("(0, 1]")], 0.0, r"a number in \(0, 1\]"),
    (Annotated[int, Interval("[2, inf)")], 1, "a whole number of at least 2"),
    (Count, 2**31, "got 2147483648"),
    (Annotated[int, OneOf(-1, -2)], 0, "-1 or -2"),
    (Annotated[str, OneOf("a", "b")], "c", "unknown x 'c'"),
    (Annotated[str, OneOf("a", "b")] | None, 3, "none or a or b, got 3"),
    (Literal["a", "b"], "c", "unknown x 'c'"),
    (tuple[Count, ...], [], "a list"),
    (tuple[Count, ...], "12", "a list"),
    (bool, 1, "true or false"),
    (str, 1, "a text"),
    (Mapping[str, int], [], "of type Mapping"),
]


@pytest.mark.parametrize(("declaration", "value", "words"), REFUSED, ids=[words for *_, words in REFUSED])
def test_what_is_refused(declaration: Any, value: Any, words: str) -> None:
    with pytest.raises(OptionError, match=words):
        checked("x", declaration, value)


def test_an_interval_that_is_none() -> None:
    with pytest.raises(ValueError, match="no interval"):
        Interval("0..1")


def test_an_error_shows_little_of_a_value() -> None:
    class Unprintable:
        __module__ = "builtins"

        def __repr__(self) -> str:
            raise RuntimeError

    assert shown("a\nb\x1b[0m") == r"'a\nb\x1b[0m'"
    assert len(shown("a" * 500)) < 70 and shown(np.zeros(3)) == "a ndarray" and shown(Unprintable()) == "a Unprintable"


@dataclass(frozen=True)
class Foreign(Method):
    """A method of another package. OnlyForTypeCheckers says nothing at run time."""

    keep: float = 0.5
    layers: tuple[int, ...] | None = None
    other: OnlyForTypeCheckers = 0.5

    facts: ClassVar[MethodFacts] = MethodFacts("foreign", "F", "", "none", "none", False, "data", False)

    def stages(self) -> tuple[()]:
        return ()


def test_a_plain_annotation_declares_a_type() -> None:
    assert Foreign(keep=3).keep == 3.0
    for options in ({"keep": "0.5"}, {"keep": float("nan")}, {"keep": True}, {"layers": 3}, {"layers": [2.5]}):
        with pytest.raises(OptionError):
            Foreign(**options)


def test_what_only_type_checkers_know_is_left_to_the_method() -> None:
    assert Foreign(other="x").other == "x"  # type: ignore[arg-type]
    assert options_of(Foreign)["other"].accepts == "anything"
    assert options_of(Foreign)["other"].read("0.25") == 0.25


def test_the_contract_finds_a_method_that_takes_anything() -> None:
    @dataclass(frozen=True)
    class Careless(Foreign):
        def __post_init__(self) -> None:
            pass

    with pytest.raises(AssertionError, match="takes"):
        check_options(Careless)


def test_a_dataclass_is_settled_in_place() -> None:
    @dataclass(frozen=True)
    class Holder:
        count: int = 1

        def __post_init__(self) -> None:
            settle(self)

    assert type(Holder(np.int64(3)).count) is int
    with pytest.raises(OptionError, match="count must be"):
        Holder(2.0)  # type: ignore[arg-type]
