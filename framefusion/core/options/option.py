"""From the annotation of a field to an option: checked where it is made, read from words, described."""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from inspect import Parameter, get_annotations
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from framefusion.core.errors import OptionError
from framefusion.core.options.kinds import (
    Anything,
    Instance,
    Kind,
    Nothing,
    Number,
    Several,
    Truth,
    Whole,
    Word,
    any_of,
    first_of,
)
from framefusion.core.options.limits import Interval, Limits, OneOf

REQUIRED = Parameter.empty
SHOWN = 60
NOT_AN_OPTION = {"option": False}
"""Metadata of a field that a dataclass has beside its options."""


@dataclass(frozen=True)
class Option:
    """One field or argument.

    kinds: what it may be. default: REQUIRED if there is none. why: the reason for its limits. hint: what to do where
    there is no default.
    """

    name: str
    kinds: tuple[Kind, ...]
    default: Any = REQUIRED
    why: str = ""
    hint: str = ""

    @staticmethod
    def of(name: str, declaration: Any, default: Any = REQUIRED, hint: str = "") -> Option:
        """The option that an annotation declares."""
        why = next((limits.why for limits in _limits(declaration) if limits.why), "")
        return Option(name, tuple(_kinds(declaration, None)), default, why, hint)

    def check(self, value: Any) -> Any:
        """`value` as a plain Python value. Raises OptionError."""
        return self._of("take", value)

    def read(self, text: str) -> Any:
        """The value that a word on a command line stands for. Raises OptionError."""
        return self._of("read", text)

    def _of(self, how: str, value: Any) -> Any:
        try:
            return first_of(self.kinds, how, value)
        except ValueError:
            raise self._refusal(value) from None

    def _refusal(self, value: Any) -> OptionError:
        named = all(isinstance(kind, Word | Nothing) for kind in self.kinds)
        if named and isinstance(value, str):
            return OptionError(f"unknown {self.name} {shown(value)}", self.why, f"choose among {self.accepts}")
        hint = self.hint if self.default is REQUIRED else f"the default is {self.name}={in_words(self.default)}"
        return OptionError(f"{self.name} must be {self.accepts}, got {shown(value)}", self.why, hint)

    @property
    def accepts(self) -> str:
        """In words."""
        return any_of(self.kinds)

    def to_dict(self) -> dict[str, Any]:
        default = {} if self.default is REQUIRED else {"default": self.default}
        return {"accepts": self.accepts, "types": [kind.to_dict() for kind in self.kinds], **default}


def checked(name: str, declaration: Any, value: Any, hint: str = "") -> Any:
    """`value` of the argument `name`, declared as a field would be. Raises OptionError."""
    return Option.of(name, declaration, hint=hint).check(value)


def settle(owner: Any) -> None:
    """Check every field of a dataclass and make it a plain value; for its `__post_init__`. Raises OptionError."""
    for name, option in options_of(type(owner)).items():
        given = getattr(owner, name)
        value = option.check(given)
        if value is not given:
            object.__setattr__(owner, name, value)


def options_of(cls: type) -> Mapping[str, Option]:
    """The options of a dataclass, by name and in order."""
    if cls not in _known:
        _known[cls] = dict(_declared(cls)) if is_dataclass(cls) else {}
    return _known[cls]


_known: dict[type, Mapping[str, Option]] = {}


def _declared(cls: Any) -> Iterator[tuple[str, Option]]:
    for field in fields(cls):
        if not field.metadata.get("option", True):
            continue
        default = REQUIRED if field.default is MISSING else field.default
        yield field.name, Option.of(field.name, _annotation(cls, field), default)


def in_words(value: Any) -> str:
    """As one would write it on a command line."""
    if isinstance(value, tuple | list):
        return ",".join(map(in_words, value))
    return "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def shown(value: Any) -> str:
    """A value in an error: short, in one line, and of a tensor or array no more than what it is."""
    kind = f"a {type(value).__name__}"
    if type(value).__module__ not in ("builtins", "numpy") or bool(getattr(value, "ndim", 0)):
        return kind
    try:
        text = " ".join(repr(value).split())
    except Exception:  # integers of thousands of digits, lists in themselves, objects that cannot be shown
        return kind
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"


def _annotation(cls: type, field: Field[Any]) -> Any:
    """The annotation of a field, evaluated where it was written; Any if it names what only type checkers import."""
    if not isinstance(field.type, str):
        return field.type
    for base in cls.__mro__:
        if field.name in get_annotations(base):
            try:
                return eval(field.type, vars(sys.modules[base.__module__]), dict(vars(base)))
            except (NameError, AttributeError, TypeError):
                return Any
    return Any


def _kinds(declaration: Any, limits: Limits | None) -> list[Kind]:
    """Of every alternative."""
    origin, parts = get_origin(declaration), get_args(declaration)
    if origin is Annotated:
        return _kinds(parts[0], next((part for part in parts[1:] if isinstance(part, Interval | OneOf)), limits))
    if origin in (Union, types.UnionType):
        return [kind for part in parts for kind in _kinds(part, limits)]
    if origin is Literal:
        return _kinds(type(parts[0]), OneOf(*parts))
    if origin is tuple and parts[1:] == (...,):
        return [Several(tuple(_kinds(parts[0], limits)))]
    return [_kind(origin or declaration, limits)]


def _kind(cls: Any, limits: Limits | None) -> Kind:
    if cls is types.NoneType:
        return Nothing()
    if cls is bool:
        return Truth()
    if cls is str:
        return Word(limits if isinstance(limits, OneOf) else None)
    if cls is int:
        return Whole() if limits is None else Whole(limits)
    if cls is float:
        return Number() if limits is None else Number(limits)
    known = isinstance(cls, type) and cls not in (Any, object) and not getattr(cls, "_is_protocol", False)
    return Instance(cls) if known else Anything()


def _limits(declaration: Any) -> list[Limits]:
    """All limits in a declaration."""
    if isinstance(declaration, Interval | OneOf):
        return [declaration]
    inside = [*get_args(declaration), *getattr(declaration, "__metadata__", ())]
    return [found for part in inside for found in _limits(part)]
