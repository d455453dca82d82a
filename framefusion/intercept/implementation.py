"""Which attention a configuration names, and the observer in front of it; either may come and go first."""

from __future__ import annotations

from typing import Any
from weakref import WeakValueDictionary

from framefusion.intercept import scores


class Observed:
    """The observing twin of the attention that `config` names, in its place until `remove()`."""

    def __init__(self, config: Any) -> None:
        self._config = config
        self._below: str | None = config._attn_implementation_internal
        self._twin = scores.probe(self._below or "eager")
        config._attn_implementation_internal = self._twin
        _observed[id(config)] = self

    @property
    def below(self) -> str:
        """The attention that computes."""
        return self._below or "eager"

    def exchange(self, name: str | None) -> str | None:
        """Observe `name` instead; returns what computed before."""
        before, twin = self._below, scores.probe(name or "eager")
        scores.unprobe(self._twin)
        self._below, self._twin = name, twin
        self._config._attn_implementation_internal = twin
        return before

    def remove(self) -> None:
        self._config._attn_implementation_internal = self._below
        scores.unprobe(self._twin)
        _observed.pop(id(self._config), None)


# By identity, since configurations compare by value. An observer holds its configuration, so no number is used twice.
_observed: WeakValueDictionary[int, Observed] = WeakValueDictionary()


def named(config: Any) -> str | None:
    """The attention `config` names, observers aside."""
    observed = _observed.get(id(config))
    return config._attn_implementation_internal if observed is None else observed._below


def exchange(config: Any, name: str | None) -> str | None:
    """Let `config` name another attention, observed as before; returns what `named` gave."""
    observed = _observed.get(id(config))
    if observed is not None:
        return observed.exchange(name)
    before: str | None = config._attn_implementation_internal
    config._attn_implementation_internal = name
    return before
