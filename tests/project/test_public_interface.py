"""What `framefusion` offers: complete, documented in one form, with examples that run."""

from __future__ import annotations

import builtins
import doctest
import inspect
import re
from typing import Any

import pytest

import framefusion as ff
from framefusion.core import errors
from framefusion.core.registry import METHODS
from framefusion.inference.answer.checkpoint import Checkpoint
from scripts import public_interface

# In this order; what a name has nothing to say about is left out.
SECTIONS = ("Args", "Returns", "Raises", "Shapes", "Example")


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return ff.load_checkpoint("framefusion/tiny", device="cpu")


@pytest.fixture(scope="module")
def inputs(checkpoint: Checkpoint) -> Any:
    from framefusion.cli.demo_clip.clip import demo_clip
    from framefusion.inference.answer.prompt import build_prompt

    return build_prompt(checkpoint, demo_clip(), "which colour flashed?")


def sections(doc: str) -> dict[str, list[str]]:
    """Lines of each section of a docstring, dedented."""
    found: dict[str, list[str]] = {}
    for line in inspect.cleandoc(doc).splitlines():
        head = re.fullmatch(r"([A-Z][a-z]+):", line)
        if head:
            found[head[1]] = []
        elif line[:1] not in ("", " "):
            assert not found, f"a paragraph stands behind a section: {line}"
        elif found:
            found[list(found)[-1]].append(line.removeprefix("    "))
    return found


def named(lines: list[str]) -> list[str]:
    """What the entries of a section are about."""
    return [line.partition(":")[0] for line in lines if line[:1] not in ("", " ")]


def test_what_type_checkers_read_is_what_is_there() -> None:
    written = public_interface.FILE.read_text(encoding="utf-8")
    assert written == public_interface.written(), "run `python -m scripts.public_interface`"
    assert public_interface.FILE.with_name("py.typed").exists()


def test_every_method_is_public() -> None:
    assert {path.partition(":")[2] for path in METHODS.values()} <= set(ff.__all__)
    assert set(ff.__all__) <= set(dir(ff))


@pytest.mark.parametrize("name", ff.__all__)
def test_documented_in_the_known_form(name: str) -> None:
    thing = getattr(ff, name)
    found = sections(thing.__doc__)
    assert list(found) == [section for section in SECTIONS if section in found], "unknown, twice or in another order"
    assert "Example" in found
    made_by_hand = "__init__" in vars(thing) or hasattr(thing, "__dataclass_fields__") or inspect.isfunction(thing)
    taken = list(inspect.signature(thing).parameters) if made_by_hand else []
    assert named(found.get("Args", [])) == taken
    if inspect.isfunction(thing):
        assert "Returns" in found
    for error in named(found.get("Raises", [])):
        assert issubclass(getattr(errors, error, None) or getattr(builtins, error), Exception)


@pytest.mark.parametrize("name", [name for name in ff.__all__ if inspect.isclass(getattr(ff, name))])
def test_public_members_are_documented(name: str) -> None:
    members = {key: value for key, value in vars(getattr(ff, name)).items() if not key.startswith("_")}
    plain = {key: getattr(value, "__func__", getattr(value, "fget", value)) for key, value in members.items()}
    inherited = [key for base in getattr(ff, name).__mro__[1:] for key in vars(base)]
    silent = [key for key, value in plain.items() if inspect.isfunction(value) and not value.__doc__]
    assert not set(silent) - set(inherited)  # what a base describes needs no words again


@pytest.mark.parametrize("name", ff.__all__)
def test_its_example_runs(name: str, checkpoint: Checkpoint, inputs: Any) -> None:
    text = "\n".join(sections(getattr(ff, name).__doc__)["Example"])
    names = {"ff": ff, "checkpoint": checkpoint, "model": checkpoint.model, "inputs": inputs}
    example = doctest.DocTestParser().get_doctest(text, names, name, None, None)
    assert example.examples
    problems: list[str] = []
    assert not doctest.DocTestRunner(verbose=False).run(example, out=problems.append).failed, "".join(problems)


def test_the_call_before_still_lists_methods_and_says_what_it_is_called_now() -> None:
    with pytest.warns(DeprecationWarning, match="list_methods"):
        assert ff.methods() == ff.list_methods()
    assert {facts["name"] for facts in ff.list_methods()} >= set(METHODS)


def test_a_name_that_is_not_there_is_told() -> None:
    with pytest.raises(AttributeError, match="no attribute 'FastX'"):
        _ = ff.FastX
