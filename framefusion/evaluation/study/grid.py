"""Which cells a study has: methods and budgets, times widths of weights, activations, cache and attention."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import product
from typing import TYPE_CHECKING, Annotated

from framefusion.core.errors import OptionError
from framefusion.core.method import checked_methods
from framefusion.core.options import OneOf, Share, settle
from framefusion.inference.quantization.precision import ATTENTIONS, FULL, Precision, Width, check_width

if TYPE_CHECKING:
    from framefusion.core.method import Method


@dataclass(frozen=True)
class Grid:
    """methods: to be matched to `budgets`. budgets: equivalent costs, of which 1.0 is the dense model for all methods.

    weights, activations, kv: widths. attentions: implementations in 8 bits, None for the model's own. common:
    what all cells share, such as groups and libraries.
    """

    methods: tuple[Method, ...]
    budgets: tuple[Share, ...]
    weights: tuple[Width, ...] = (FULL,)
    activations: tuple[Width, ...] = (FULL,)
    kv: tuple[Width, ...] = (FULL,)
    attentions: tuple[Annotated[str, OneOf(*ATTENTIONS)] | None, ...] = (None,)
    common: Precision = field(default_factory=Precision)
    impossible: list[str] = field(default_factory=list, compare=False)

    def __post_init__(self) -> None:
        """Raises OptionError for what no combination could have, and where nothing is left to compare."""
        object.__setattr__(self, "methods", checked_methods(self.methods, "a study"))
        settle(self)
        for part in ("weights", "activations", "kv"):
            for width in getattr(self, part):
                check_width(part, width)

    @property
    def fractions(self) -> tuple[float, ...]:
        """Budgets below 1, from the largest."""
        return tuple(sorted({budget for budget in self.budgets if budget < 1.0}, reverse=True))

    def precisions(self) -> list[Precision]:
        """Those that quantise the model alike follow each other. Combinations nobody has go to `impossible`."""
        found = []
        for attention, weights, activations in product(self.attentions, self.weights, self.activations):
            try:
                found += list(self._caches(attention, weights, activations))
            except OptionError as error:
                note = f"left out weights={weights} with activations={activations}: {error.why}"
                if note not in self.impossible:
                    self.impossible.append(note)
        if not found:
            raise OptionError("no combination of these widths is possible", "; ".join(self.impossible))
        return found

    def in_order(self) -> list[Precision]:
        """The same, those that quantise the model alike still side by side; the widest is the first."""
        precisions = self.precisions()
        first = widest(precisions)
        return sorted(precisions, key=lambda one: (one.without_cache != first.without_cache, one != first))

    def _caches(self, attention: str | None, weights: Width, activations: Width) -> Iterator[Precision]:
        for kv in self.kv:
            yield replace(self.common, weights=weights, activations=activations, kv=kv, attention=attention)


def widest(precisions: list[Precision]) -> Precision:
    """What the others are compared with: the most bits, attention as configured, and nothing simulated if possible."""

    def bits(found: Precision) -> tuple[int, ...]:
        exact = found.attention is None
        return exact, found.weights.bits, found.activations.bits, found.kv.bits, not found.simulated

    return max(precisions, key=bits)
