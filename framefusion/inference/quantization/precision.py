"""How many bits weights, activations and the KV cache have, as one small configuration."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Annotated, Any

from framefusion.core.errors import OptionError
from framefusion.core.options import Count, Interval, OneOf, options_of, settle, shown

FULL_WORDS = ("16", "full", "none")
EXAMPLE = "weights=int4,activations=int8,kv=int4"
# Widths by part: those that libraries have, and those the simulation rounds to.
LIBRARY = {"weights": (4, 8), "activations": (8,), "kv": (2, 4, 8)}
SIMULATED = {"weights": range(2, 9), "activations": range(4, 9), "kv": range(2, 9)}
LIBRARIES = ("torchao", "hqq", "bitsandbytes")
BACKENDS = ("auto", "quanto", "hqq")
ATTENTIONS = ("sage", "sage-emulated")
Group = Annotated[int, Interval("[1, inf)", why="a group must hold at least one value")]


@dataclass(frozen=True)
class Width:
    """Bits of one value. simulated: rounded to as many steps but stored and computed as before."""

    bits: Count = 16
    simulated: bool = False

    def __post_init__(self) -> None:
        settle(self)

    @property
    def full(self) -> bool:
        return self.bits == 16 and not self.simulated

    def __str__(self) -> str:
        return "16" if self.full else f"{'sim' if self.simulated else 'int'}{self.bits}"

    @staticmethod
    def parse(text: str) -> Width:
        """ "int4" of a library, "sim4" simulated, "16" as it is."""
        if text in FULL_WORDS:
            return FULL
        found = re.fullmatch("(int|sim)([1-9][0-9]{0,8})", text)
        if found is None or text == "int16":
            raise OptionError(
                f"{shown(text)} is no width",
                "a number alone does not say whether a library or the simulation should do it",
                "write int4 for a library's kernels, sim4 for simulated rounding, 16 for none",
            )
        return Width(int(found[2]), found[1] == "sim")


FULL = Width()


@dataclass(frozen=True)
class Precision:
    """How a model is quantised.

    weights, activations: of the linear layers of the language model; tower: also of vision tower and projector. The
    head that writes words is left alone, as are embeddings and adapters.
    kv: of the cache. group: neighbouring weights that share one scale. kv_group: neighbouring values of a key or a
    value that share one, None for the largest divisor of the heads' width up to 64.
    library: of real weights: "torchao", "hqq", or "bitsandbytes" (its int4 is NF4, in groups of its own).
    cache: library of a real quantised cache; "auto" takes quanto for 2 and 4 bits, hqq for 8.
    attention: "sage" or "sage-emulated" for attention in 8 bits, None for what is configured.

    Raises OptionError for widths nobody has.
    """

    weights: Width = FULL
    activations: Width = FULL
    kv: Width = FULL
    tower: bool = False
    group: Group = 128
    kv_group: Group | None = None
    library: Annotated[str, OneOf(*LIBRARIES)] = "torchao"
    cache: Annotated[str, OneOf(*BACKENDS)] = "auto"
    attention: Annotated[str, OneOf(*ATTENTIONS)] | None = None

    def __post_init__(self) -> None:
        settle(self)
        for part in LIBRARY:
            check_width(part, getattr(self, part))
        activations, weights = self.activations, self.weights
        if not activations.full and not activations.simulated and (weights.full or weights.simulated):
            raise OptionError(
                f"activations=int8 cannot go with weights={weights}",
                "libraries multiply 8-bit activations with integer weights only",
                "add weights=int8, or simulate with activations=sim8",
            )
        if activations.simulated and not weights.full and not weights.simulated:
            raise OptionError(
                f"activations={activations} cannot go with weights={weights}",
                "half of the product would be a library's and half a simulation",
                f"write weights=sim{weights.bits}, or activations=int8",
            )
        if self.library != "torchao" and not activations.full and not activations.simulated:
            raise OptionError(
                f"{self.library} does not take activations={activations}",
                hint="library=torchao multiplies 8-bit values",
            )

    @staticmethod
    def parse(text: str) -> Precision:
        """From words such as `weights=int4,activations=int8,kv=int4,tower=true`; "" is 16 bits everywhere."""
        given: dict[str, Any] = {}
        for part in filter(None, (part.strip() for part in text.split(","))):
            name, equals, value = part.partition("=")
            if not equals or name not in _READ or name in given:
                reason = "named twice" if name in given else "no setting of a precision"
                names = ", ".join(_READ)
                raise OptionError(f"`{part}` is {reason}", hint=f"write {EXAMPLE}; the settings are {names}")
            given[name] = _READ[name](value)
        if text.strip() and not given:
            raise OptionError(f"{shown(text)} sets nothing", hint=f"write {EXAMPLE}")
        return Precision(**given)

    def __str__(self) -> str:
        """The shortest text that does the same: widths of 16 bits are left out, and what only concerns them."""
        idle = {"group"} if self.weights.full else set()
        idle |= {"tower"} if self.weights.full and self.activations.full else set()
        idle |= {"library"} if self.weights.full or self.weights.simulated else set()
        idle |= {"group"} if self.library == "bitsandbytes" and not self.weights.simulated else set()
        idle |= {"kv_group", "cache"} if self.kv.full else set()
        words = []
        for part in fields(self):
            value = getattr(self, part.name)
            if value != part.default and part.name not in idle:
                words.append(f"{part.name}={str(value).lower() if isinstance(value, bool) else value}")
        return ",".join(words)

    @property
    def without_cache(self) -> Precision:
        """What it does to the model itself."""
        return replace(self, kv=FULL, kv_group=None, cache="auto")

    @property
    def full(self) -> bool:
        """Whether nothing is quantised."""
        return self.weights.full and self.activations.full and self.kv.full and self.attention is None

    @property
    def simulated(self) -> bool:
        """Whether anything is only simulated, so that times say nothing."""
        widths = (self.weights, self.activations, self.kv)
        return any(width.simulated for width in widths) or self.attention == "sage-emulated"


def check_width(part: str, width: Width) -> None:
    """Raises OptionError for a width that `part`, weights, activations or kv, cannot have."""
    if width.full:
        return
    known = SIMULATED[part] if width.simulated else LIBRARY[part]
    if width.bits not in known:
        names = ", ".join(f"{'sim' if width.simulated else 'int'}{bits}" for bits in known)
        raise OptionError(f"{part} cannot have {width.bits} bits", hint=f"{part} can be {names} or 16")


def _truth(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise OptionError(f"`{text}` is neither true nor false", hint="write tower=true to quantise the tower as well")
    return text.lower() == "true"


def _read(name: str, text: str) -> Any:
    return options_of(Precision)[name].read(text)


_READ: dict[str, Callable[[str], Any]] = {
    "weights": Width.parse,
    "activations": Width.parse,
    "kv": Width.parse,
    "tower": _truth,
    **{name: partial(_read, name) for name in ("group", "kv_group", "library", "cache", "attention")},
}
