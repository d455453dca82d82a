"""What is wrong with the weights of a file, in words: names and sizes, compared before a number is read."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

Shape = tuple[int, ...]
SHOWN = 3


def differences(
    wanted: Mapping[str, Shape], stored: Mapping[str, Shape], optional: Callable[[str], bool] = lambda name: False
) -> str:
    """The sentence that names weights which are missing, nobody's, or of another size; "" where there are none.

    optional: whether a weight may be missing or there.
    """
    missing = sorted(key for key in wanted.keys() - stored.keys() if not optional(key))
    extra = sorted(key for key in stored.keys() - wanted.keys() if not optional(key))
    both = sorted(wanted.keys() & stored.keys())
    other = [other_size(key, stored[key], wanted[key]) for key in both if stored[key] != wanted[key]]
    parts = (
        (f"it lacks {counted(missing)}:", missing),
        (f"it holds {counted(extra)} that nothing reads:", extra),
        (f"{counted(other)} of another size:", other),
    )
    return "; ".join(f"{words} {listed(names)}" for words, names in parts if names)


def shapes_in(file: Any) -> dict[str, Shape]:
    """By name, of all weights that an open safetensors file holds; its header says them."""
    return {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118 - no mapping


def other_size(name: str, stored: Shape, wanted: Shape) -> str:
    return f"{name} is {list(stored)}, not {list(wanted)}"


def counted(names: Collection[Any]) -> str:
    return f"{len(names)} weight{'' if len(names) == 1 else 's'}"


def listed(names: Sequence[str]) -> str:
    """The first of them, and how many more there are."""
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more} more" if more > 0 else "")
