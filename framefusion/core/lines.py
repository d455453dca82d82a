"""One JSON object per line, for any text in it, and read again whatever became of the file."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import fields
from functools import cache
from typing import Any

# Some readers end lines at these, and terminals obey some. Half a surrogate pair has no UTF-8; a second half that
# follows a first one is left as it is, because the escapes of both would be read as one character.
_ESCAPED = re.compile("[\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udbff]|(?<![\ud800-\udbff])[\udc00-\udfff]")
LARGEST = 2**63


def line_of(data: Mapping[str, Any]) -> str:
    """One line of JSON, without its end."""
    text = json.dumps(data, ensure_ascii=False)
    return _ESCAPED.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def encoded(lines: Iterable[str]) -> bytes:
    """The bytes of lines, each with its end or without."""
    return "".join(line if line.endswith("\n") else line + "\n" for line in lines).encode("utf-8", "surrogatepass")


def split(data: bytes) -> list[bytes]:
    """Lines without their ends; what stands behind the last end is one, too."""
    lines = data.split(b"\n")
    return lines if lines[-1] else lines[:-1]


def read_object(line: str | bytes) -> dict[str, Any]:
    """The object of a line. Raises ValueError for anything else: noise, other values, names that occur twice."""
    try:
        text = line if isinstance(line, str) else line.decode("utf-8", "surrogatepass")
        data = json.loads(text, object_pairs_hook=_once)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(data, dict):
        raise ValueError("it is no JSON object")
    return data


def check_types(cls: type, values: Mapping[str, Any], infinite: Collection[str] = ()) -> None:
    """Raises TypeError where a value of a field of the dataclass `cls` is none of the types its annotation names.

    Integers have 64 bits at most. Numbers are finite, except those of the fields in `infinite`.
    """
    for name, kinds in _kinds(cls).items():
        if name in values and not any(_is(kind, values[name], name in infinite) for kind in kinds):
            raise TypeError(f"{name} is not {' or '.join(kinds)}")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name occurs twice")
    return found


@cache
def _kinds(cls: type) -> dict[str, list[str]]:
    """Names of types by field; annotations are texts because they are not evaluated."""
    kinds = {field.name: str(field.type).split(" | ") for field in fields(cls)}
    return {name: [kind.partition("[")[0] for kind in found] for name, found in kinds.items()}


def _is(kind: str, value: Any, infinite: bool) -> bool:
    if kind == "None":
        return value is None
    if kind in ("str", "bool"):
        return type(value).__name__ == kind
    if kind == "Mapping":
        return isinstance(value, Mapping)
    if kind == "int":
        return is_number(value) and -LARGEST <= value < LARGEST and value == int(value)
    if kind == "float":
        return is_number(value) and (infinite or math.isfinite(value))
    # A class of ours, which checks itself.
    return True


def is_number(value: Any) -> bool:
    """Whether a value is a number that fits into 64 bits."""
    return type(value) is float or (type(value) is int and -LARGEST <= value < LARGEST)
