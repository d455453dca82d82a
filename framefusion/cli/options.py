"""From words on the command line to a method."""

from __future__ import annotations

import json
from typing import Any

from framefusion.errors import OptionError
from framefusion.method import Method
from framefusion.registry import configure, method


def build_method(name: str, budget: float | None, settings: list[str]) -> Method:
    """The method `name` with its budget option set to `budget` and `key=value` settings on top.

    Raises UnknownNameError for the name and OptionError for a setting the method does not have.
    """
    cls = method(name)
    options: dict[str, Any] = {} if budget is None else {cls.facts.budget: budget}
    return configure(name, options | settings_from(settings))


def settings_from(words: list[str]) -> dict[str, Any]:
    """`key=value` words as a mapping. Raises OptionError."""
    options: dict[str, Any] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals:
            raise OptionError(f"`--set {word}` is no setting", hint="write --set key=value")
        options[key] = _value(value)
    return options


def _value(text: str) -> Any:
    """Numbers, true, false and null as JSON has them; anything else is a word."""
    try:
        return json.loads(text.lower() if text.lower() in ("true", "false", "none") else text)
    except json.JSONDecodeError:
        return None if text.lower() == "none" else text
