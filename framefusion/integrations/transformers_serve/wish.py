"""What one request wants: the server's method, its own budget, another method, or no reduction."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from framefusion.core.errors import OptionError
from framefusion.core.method import Method
from framefusion.core.options.option import shown
from framefusion.core.registry import changed, configure
from framefusion.methods.without_sinks import WithoutSinks

KEY = "visual_reduction"
"""The extra field of a request, named as in the other engine."""
DENSE = "dense"


@dataclass(frozen=True)
class Wish:
    """method: None answers with the model as it is. clip: the prompt shows a video."""

    method: Method | None
    clip: bool = False


def read_wish(body: Mapping[str, Any], default: Method | None) -> Wish:
    """The wish of a request's JSON, on top of the server's `default`. Raises OptionError, UnknownNameError."""
    clip = any(part.get("type") == "video_url" for part in parts_of(body.get("messages")))
    given = body.get(KEY)
    if given is None:
        return Wish(default, clip)
    if not isinstance(given, Mapping):
        raise OptionError(f"{KEY} must be a mapping, got {shown(given)}", hint=f'such as {{"{KEY}": {{"cost": 0.3}}}}')
    options = {str(key): value for key, value in given.items() if key != "method"}
    name = given.get("method", default.facts.name if default is not None else DENSE)
    if not isinstance(name, str):
        raise OptionError(f"the method of {KEY} must be a name, got {shown(name)}", hint="see `framefusion methods`")
    if name == DENSE:
        if options:
            raise OptionError(f"`{min(options)}` says nothing without a method", hint=f'name one in "{KEY}"')
        return Wish(None, clip)
    if default is None or name != default.facts.name:
        return Wish(configure(name, options), clip)
    return Wish(_changed(default, options), clip)


def _changed(default: Method, options: Mapping[str, Any]) -> Method:
    """The server's method with a request's options; with `sinks`, they are those of the method within."""
    if isinstance(default, WithoutSinks):
        return replace(default, method=_changed(default.method, options))
    return changed(default, options)


def parts_of(messages: Any) -> list[Mapping[str, Any]]:
    """All parts of all messages that have any; a text alone has none."""
    contents = [one.get("content") for one in messages or () if isinstance(one, Mapping)]
    return [part for content in contents if isinstance(content, list) for part in content if isinstance(part, Mapping)]
