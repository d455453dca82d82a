"""What `framefusion` offers: complete, documented in one form, with examples that run."""

from __future__ import annotations

import builtins
import doctest
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import framefusion as ff
import framefusion.testing.methods
import framefusion.testing.rows
import framefusion.testing.signals
from framefusion import testing
from framefusion.core import errors
from framefusion.core.registry import METHODS
from framefusion.inference import video
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


# What is public beside `framefusion` itself, and stands in the reference.
ROOMS = {
    "framefusion.core.errors": errors,
    "framefusion.inference.video": video,
    "framefusion.testing.methods": testing.methods,
    "framefusion.testing.rows": testing.rows,
    "framefusion.testing.signals": testing.signals,
}


def public() -> dict[str, Any]:
    """Every function and class of the reference, with the public methods of the classes."""
    found = {name: getattr(ff, name) for name in ff.__all__}
    for room, module in ROOMS.items():
        own = getattr(module, "__all__", [name for name, value in vars(module).items() if is_own(value, module)])
        found |= {f"{room}.{name}": getattr(module, name) for name in own if callable(getattr(module, name))}
    classes = {name: value for name, value in found.items() if inspect.isclass(value)}
    return found | {f"{name}.{key}": value for name, cls in classes.items() for key, value in functions(cls)}


def is_own(value: Any, module: Any) -> bool:
    made_here = getattr(value, "__module__", None) == module.__name__ and not value.__name__.startswith("_")
    return made_here and (inspect.isclass(value) or inspect.isfunction(value))


def functions(cls: type) -> Iterator[tuple[str, Any]]:
    """Public methods and properties that a class itself defines, but for those whose base describes them."""
    for name, value in vars(cls).items():
        plain = getattr(value, "__func__", getattr(value, "fget", value))
        told = any(getattr(vars(base).get(name), "__doc__", None) for base in cls.__mro__[1:])
        if inspect.isfunction(plain) and not name.startswith("_") and (plain.__doc__ or not told):
            yield name, plain


@pytest.mark.parametrize("name", public())
def test_every_parameter_is_named(name: str) -> None:
    thing = public()[name]
    assert thing.__doc__, "no docstring"
    inherits = inspect.isclass(thing) and "__init__" not in vars(thing)
    taken = [] if inherits else [word for word in inspect.signature(thing).parameters if word not in ("self", "cls")]
    assert not [word for word in taken if not re.search(rf"\b{word}\b", thing.__doc__)]
    found = sections(thing.__doc__)
    assert list(found) == [section for section in SECTIONS if section in found], "unknown, twice or in another order"
    assert set(named(found.get("Args", []))) <= set(taken)
    for error in named(found.get("Raises", [])):
        assert issubclass(getattr(errors, error, None) or getattr(builtins, error), Exception)


@pytest.mark.parametrize("name", [name for name, thing in public().items() if "Example:" in (thing.__doc__ or "")])
def test_its_example_runs(
    name: str, checkpoint: Checkpoint, inputs: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    pictures = np.random.default_rng(0).integers(0, 255, (8, 48, 64, 3), dtype=np.uint8)
    video.write_clip("clip.mp4", pictures, fps=8)
    text = "\n".join(sections(public()[name].__doc__)["Example"])
    names = {"ff": ff, "checkpoint": checkpoint, "model": checkpoint.model, "inputs": inputs}
    names |= {key: getattr(video, key) for key in video.__all__}
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
