"""Every option of every method refuses what it does not mean, by whatever door a value comes in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch

import framefusion as ff
from framefusion.cli.options import build_method
from framefusion.core.errors import FrameFusionError, OptionError
from framefusion.core.layout import Geometry
from framefusion.core.method import Method
from framefusion.core.options import options_of
from framefusion.core.options.kinds import Truth
from framefusion.core.options.limits import LARGEST
from framefusion.core.options.option import in_words
from framefusion.core.registry import configure, describe, families, methods, read
from framefusion.testing.methods import can_walk, contents, make_row, walk
from tests.core.options.hostile import NEVER, SOMETIMES, WORDS

OPTIONS = [(name, option) for name in methods for option in options_of(methods.load(name))]
every_option = pytest.mark.parametrize(
    ("name", "option"), OPTIONS, ids=[f"{name}-{option}" for name, option in OPTIONS]
)
SHAPES = {"video": Geometry.grid(3, 3, 3), "one token": Geometry.grid(1, 1, 1)}
TRUE, FALSE = ("true", "True", "on", "yes", "1"), ("false", "OFF", "off", "no", "0")

Door = Callable[[str, str, Any], Method]


def doors(name: str, option: str) -> dict[str, Door]:
    """Every way to make a method with an option."""
    found: dict[str, Door] = {
        "constructor": lambda name, option, value: methods.load(name)(**{option: value}),
        "replace": lambda name, option, value: replace(methods.load(name)(), **{option: value}),
        "configure": lambda name, option, value: configure(name, {option: value}),
        "chain": lambda name, option, value: ff.Chain(configure(name, {option: value})),
    }
    if option == methods.load(name).facts.budget:
        found["budget"] = lambda name, option, value: methods.load(name)().with_budget(value)
        found["keep"] = lambda name, option, value: configure(name, {"keep": value})
    return found


@every_option
def test_what_no_option_means_is_refused(name: str, option: str) -> None:
    for (what, value), (way, door) in product(NEVER.items(), doors(name, option).items()):
        try:
            made = door(name, option, value)
        except OptionError as error:
            assert option in error.what and error.hint and len(str(error)) < 400, (what, way)
        else:
            raise AssertionError(f"{way} takes {what}: {made}")


@every_option
def test_what_is_taken_works(name: str, option: str) -> None:
    """A value is refused, or it is of the default's type and the method decides with it."""
    default = methods.load(name).__dataclass_fields__[option].default
    for what, value in SOMETIMES.items():
        try:
            method = methods.load(name)(**{option: value})
        except OptionError:
            continue
        kept = getattr(method, option)
        assert is_truth(name, option) or not isinstance(kept, bool), what
        assert not isinstance(default, bool) or isinstance(kept, bool), what
        # A budget is a count or a fraction, whichever the default is.
        assert not isinstance(default, int) or isinstance(kept, int) or option == "keep", what
        assert isinstance(kept, bool | int | float | str | tuple | None), what
        hash(method)
        decides(method)


@every_option
def test_both_ends_of_a_range_work(name: str, option: str) -> None:
    for value in ends(name, option):
        try:
            method = methods.load(name)(**{option: value})
        except OptionError as error:
            # Options that do not go together, such as shares and layers of unequal number.
            assert option not in error.what.split(" must be ")[0], error
        else:
            decides(method)


def ends(name: str, option: str) -> Iterator[Any]:
    for kind in describe(name)["declared"][option]["types"]:
        several, kind = kind["type"] == "list", (kind["each"][0] if kind["type"] == "list" else kind)
        values = list(kind.get("choices", ()))
        if "range" in kind:
            low, high = (float(bound) for bound in kind["range"][1:-1].split(", "))
            number = int if kind["type"] == "int" else float
            values += [number(low)] if kind["range"][0] == "[" else [1e-9]
            values += [number(min(high, LARGEST))] if kind["range"][-1] == "]" or high > LARGEST else [high - 1e-9]
        yield from ((value,) for value in values) if several else values


def decides(method: Method) -> None:
    """Where a model has the layers it names, the method leaves valid plans and finite values."""
    if not can_walk(type(method)):
        return
    for shape, geometry in SHAPES.items():
        try:
            end = walk(method, make_row(shape, geometry, contents(geometry)["random"])).end
        except OptionError:  # no such layer
            return
        assert bool(end.hidden.isfinite().all()) and len(end.geometry)


@every_option
def test_plain_scalars_of_numpy_are_taken(name: str, option: str) -> None:
    default = methods.load(name).__dataclass_fields__[option].default
    if isinstance(default, bool):
        assert getattr(configure(name, {option: np.bool_(not default)}), option) is (not default)
    elif isinstance(default, float):
        kept = getattr(configure(name, {option: np.float64(default)}), option)
        assert kept == default and type(kept) is float
    elif isinstance(default, int):
        kept = getattr(configure(name, {option: np.int32(default)}), option)
        assert kept == default and type(kept) is int


def test_a_whole_number_is_a_number_where_none_is_counted() -> None:
    assert ff.FrameFusion(cost=1) == ff.FrameFusion(cost=1.0) and isinstance(ff.FrameFusion(cost=1).cost, float)
    assert ff.FastV(keep=1).keep == 1 and isinstance(ff.FastV(keep=1).keep, int)
    assert ff.PyramidDrop(layers=[1, 2]).layers == (1, 2)


@every_option
def test_words_say_the_default(name: str, option: str) -> None:
    default = methods.load(name).__dataclass_fields__[option].default
    assert read(name, {option: in_words(default)}) == {option: default}
    assert build_method(name, None, [f"{option}={in_words(default)}"]) == methods.load(name)()


@every_option
def test_words_that_say_nothing(name: str, option: str) -> None:
    for word in WORDS:
        with pytest.raises(OptionError) as caught:
            build_method(name, None, [f"{option}={word}"])
        assert option in caught.value.what and caught.value.hint


@every_option
def test_words_for_a_boolean(name: str, option: str) -> None:
    if not is_truth(name, option):
        for word in ("true", "on", "off", "no"):
            with pytest.raises(OptionError):
                read(name, {option: word})
        return
    assert {read(name, {option: word})[option] for word in TRUE} == {True}
    assert {read(name, {option: word})[option] for word in FALSE} == {False}
    default = methods.load(name).__dataclass_fields__[option].default
    for word in ("2", "off!", "maybe", "0.0", *(["none"] if default is not None else [])):
        with pytest.raises(OptionError):
            read(name, {option: word})


def is_truth(name: str, option: str) -> bool:
    """Among what the option takes are true and false."""
    return any(isinstance(kind, Truth) for kind in options_of(methods.load(name))[option].kinds)


@pytest.mark.parametrize(
    "options",
    [
        {"layers": [8, 4]},
        {"layers": [4, 4]},
        {"shares": [0.2, 0.5]},
        {"layers": [1, 2], "shares": [0.5]},
        {"layers": [1, 2.5]},
        {"shares": [0.5, 0.0]},
    ],
)
@pytest.mark.parametrize("name", ["adsc", "pyramiddrop", "sparsevlm"])
def test_schedules_that_are_none(name: str, options: dict[str, Any]) -> None:
    with pytest.raises(OptionError):
        configure(name, options)


def test_options_that_do_not_go_together() -> None:
    with pytest.raises(OptionError, match="its own count"):
        replace(ff.PruMerge(strict=True), keep=0.5)
    with pytest.raises(OptionError, match="its own count"):
        ff.PruMergePlus(strict=True).with_budget(0.5)


@pytest.mark.parametrize("value", [*NEVER.values(), ff.FastV, None, 1], ids=[*NEVER, "method class", "none", "one"])
def test_a_chain_of_what_is_no_method(value: Any) -> None:
    with pytest.raises(OptionError):
        ff.Chain(value)
    with pytest.raises(OptionError):
        ff.Chain(ff.FastV(), value)
    with pytest.raises(OptionError):
        replace(ff.Chain(ff.FastV()), methods=value)


def test_a_chain_is_replaced_like_any_other() -> None:
    assert replace(ff.Chain(ff.FastV()), methods=[ff.Random()]) == ff.Chain(ff.Random())


@pytest.mark.parametrize("name", list(methods))
def test_a_family_fills_in_what_its_methods_take(name: str) -> None:
    for family in families:
        filled = methods.load(name)().for_family(families.load(family))
        assert replace(filled) == filled  # type: ignore[type-var]


@pytest.mark.parametrize("threshold", [float("nan"), 2.0, "0.6", torch.tensor(0.6)])
def test_a_threshold_that_a_family_brings_is_checked_too(threshold: Any) -> None:
    family = replace(families.load("qwen2_vl"), similarity_lower_bound=threshold)
    with pytest.raises(OptionError, match="similarity_lower_bound"):
        ff.FrameFusion().for_family(family)


@pytest.mark.parametrize("name", [None, 1, [], {}, "", "fast", "FastV", "fastv "])
def test_names_of_no_method(name: Any) -> None:
    with pytest.raises(FrameFusionError) as caught:
        configure(name, {})
    assert caught.value.hint or caught.value.what


@pytest.mark.parametrize("name", list(methods))
def test_a_description_names_every_option_with_its_default(name: str) -> None:
    facts = describe(name)
    own = fields(methods.load(name))  # type: ignore[arg-type]
    assert facts["options"] == {field.name: field.default for field in own}
    assert all(facts["declared"][field.name]["accepts"] for field in own)
    assert all(kind["type"] != "any" for option in facts["declared"].values() for kind in option["types"])
