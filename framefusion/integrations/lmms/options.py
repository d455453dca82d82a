"""From the words after `--model_args` to a method, and what is left for lmms-eval's own class."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from framefusion.core.errors import OptionError
from framefusion.core.method import Method
from framefusion.core.options import shown
from framefusion.core.registry import configure, read
from framefusion.inference.quantization.precision import Precision

DENSE = ("dense", "none")
DEFAULT_METHOD = "framefusion"
AS_LOADED = ("none", "16")
WRITTEN = (str, bool, int, float)
IN_ONE_WORD = str.maketrans("+:", ",=")


def split(arguments: Mapping[str, Any], taken: Collection[str]) -> tuple[Method | None, dict[str, Any]]:
    """The method that `arguments` describe, None for the dense baseline, and the arguments of the wrapped class.

    arguments: as lmms-eval parsed them. taken: parameters of the wrapped class; everything else is ours, and an unknown
    word is an error even where that class would swallow it.

    Raises OptionError and UnknownNameError.
    """
    rest = {key: value for key, value in arguments.items() if key in taken}
    name = str(arguments.get("method", DEFAULT_METHOD))
    ours = {key: value for key, value in arguments.items() if key not in {*taken, "method"}}
    if name not in DENSE:
        words = {key: _word(value) for key, value in ours.items() if isinstance(value, WRITTEN)}
        return configure(name, {**ours, **read(name, words)}), rest
    if ours:
        raise OptionError(
            f"`method={name}` runs the model as it is and takes no {', '.join(ours)}",
            hint="leave the options out, or name a method",
        )
    return None, rest


def precision_of(value: Any) -> Precision | None:
    """What `quantize=` asks for, None for the model as it is loaded.

    value: what `framefusion run --quantize` takes, or a `Precision`. `--model_args` ends a value at a comma, so `+` may
    stand for it, and `:` for the equals sign: `quantize=weights:int4+kv:int8`. Raises OptionError.
    """
    if isinstance(value, Precision):
        asked = value
    else:
        text = "" if value is None else (value if isinstance(value, str) else shown(value)).strip().strip("'\"")
        asked = Precision.parse("" if text in AS_LOADED else text.translate(IN_ONE_WORD))
    return None if asked.full else asked


def parameters(bases: Sequence[type]) -> dict[str, Any]:
    """The arguments that these classes' constructors declare, with their defaults; the first class counts most."""
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    found = {
        name: parameter.default
        for base in reversed(bases)
        if "__init__" in vars(base)
        for name, parameter in inspect.signature(base.__init__).parameters.items()  # type: ignore[misc]
        if parameter.kind in kinds
    }
    return {name: default for name, default in found.items() if name != "self"}


def _word(value: Any) -> str:
    """As it was written: lmms-eval makes numbers and booleans of some words without knowing what is asked for."""
    return str(value).strip("'\"")
