"""From words on the command line to a method."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import Any

from framefusion.errors import OptionError
from framefusion.method import Method
from framefusion.registry import method


def build_method(name: str, budget: float | None, settings: list[str]) -> Method:
    """The method `name` with its budget option set to `budget` and `key=value` settings on top.

    Raises UnknownNameError for the name and OptionError for a setting the method does not have.
    """
    cls = method(name)
    options: dict[str, Any] = {} if budget is None else {cls.facts.budget: budget}
    known = [field.name for field in fields(cls)]  # type: ignore[arg-type]
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals or key not in known:
            raise OptionError(
                f"`--set {setting}` does not fit the method `{name}`",
                hint=f"write --set key=value with one of: {', '.join(known)}",
            )
        options[key] = _value(value)
    try:
        return cls(**options)
    except TypeError as error:
        raise OptionError(f"the method `{name}` does not take these settings", str(error)) from error


def _value(text: str) -> Any:
    """Numbers, true, false and null as JSON has them; anything else is a word."""
    try:
        return json.loads(text.lower() if text.lower() in ("true", "false", "none") else text)
    except json.JSONDecodeError:
        return None if text.lower() == "none" else text
