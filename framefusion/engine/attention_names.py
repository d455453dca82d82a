"""Which attention a configuration names, and what is laid over it: observers of reductions, attention of fewer bits.

They come and go in any order, and models built on one configuration object share it: the last one out restores what
was configured. What a user sets in the meantime counts from then on, and stays.
"""

from __future__ import annotations

import sys
import threading
from typing import Any
from weakref import WeakSet, WeakValueDictionary

from framefusion.core.errors import OptionError
from framefusion.engine import attention_observer


class AttentionTwin:
    """The observing twin of the attention that `config` names, in its place until `remove()`."""

    def __init__(self, config: Any) -> None:
        with _lock:
            self._shared = _shared(config)
            self._shared.take_over()
            self._shared.observers.add(self)
            self._shared.apply()

    @property
    def below(self) -> str:
        """The attention that computes."""
        return self._shared.computes or "eager"

    def renew(self) -> None:
        """Observe what somebody made the configuration name since."""
        if self._shared.changed:
            with _lock:
                self._shared.take_over()
                self._shared.apply()

    def remove(self) -> None:
        with _lock:
            self._shared.take_over()
            self._shared.observers.discard(self)
            self._shared.apply()


class AttentionOverride:
    """Another attention, laid over the one that `config` names until `remove()`.

    owner: the decoder that asks for it. Raises OptionError where another one is laid over it already.
    """

    def __init__(self, config: Any, name: str, owner: object) -> None:
        self.name, self.owner = name, owner
        with _lock:
            self._shared = _shared(config)
            self._shared.take_over()
            other = next((laid for laid in self._shared.laid if laid.owner is owner or laid.name != name), None)
            if other is not None:
                raise OptionError(
                    f"attention={name} cannot be laid over attention={other.name}",
                    "each would put back the other when it is removed"
                    if other.owner is owner
                    else "another model shares the configuration object, and with it the attention",
                    "call `.remove()` on the first one, or leave its `with` block",
                )
            self._shared.laid.append(self)
            self._shared.apply()

    def remove(self) -> None:
        with _lock:
            self._shared.take_over()
            if self in self._shared.laid:
                self._shared.laid.remove(self)
            self._shared.apply()


class _Twin(str):
    """The name of an observing twin. A copy of the configuration names the attention itself, and works without us."""

    below: str | None

    def __deepcopy__(self, memo: dict[int, Any]) -> str | None:
        return self.below

    def __reduce_ex__(self, protocol: Any) -> Any:
        return (_plain, (self.below,))


def _plain(name: str | None) -> str | None:
    return name


class _Shared:
    """What is laid over the attention of one configuration.

    base: the attention configured. laid: attention laid over it, the latest last. observers: of the reductions at work.
    """

    def __init__(self, config: Any) -> None:
        self.config = config
        self.base: str | None = config._attn_implementation_internal
        self.laid: list[AttentionOverride] = []
        self.observers: WeakSet[AttentionTwin] = WeakSet()
        self._applied: str | None = self.base
        self._twin: _Twin | None = None

    def __del__(self) -> None:
        """Reductions that were dropped with their model leave no name behind; another model may share the object."""
        if self._twin is not None and not sys.is_finalizing():
            attention_observer.unprobe(self._twin)
            if not self.changed:
                self.config._attn_implementation_internal = self.computes

    @property
    def computes(self) -> str | None:
        return self.laid[-1].name if self.laid else self.base

    @property
    def changed(self) -> bool:
        """Whether somebody else named an attention."""
        return self.config._attn_implementation_internal is not self._applied

    def take_over(self) -> None:
        """Take what somebody else named as the attention configured."""
        named = self.config._attn_implementation_internal
        if named != self._applied:
            self.base = None if named is None else named.removeprefix(attention_observer.PREFIX)
            self.laid.clear()

    def apply(self) -> None:
        """Let the configuration name what computes, or its twin where somebody observes."""
        before, twin = self._twin, None
        if self.observers:
            twin = _Twin(attention_observer.probe(self.computes or "eager"))
            twin.below = self.computes
        if before is not None:
            attention_observer.unprobe(before)
        self._twin, self._applied = twin, self.computes if twin is None else twin
        self.config._attn_implementation_internal = self._applied


_lock = threading.RLock()
# By identity, since configurations compare by value. Each entry holds its configuration, so no number is used twice.
_entries: WeakValueDictionary[int, _Shared] = WeakValueDictionary()


def _shared(config: Any) -> _Shared:
    entry = _entries.get(id(config))
    if entry is None:
        entry = _entries[id(config)] = _Shared(config)
    return entry


def named(config: Any) -> str | None:
    """The attention `config` names, observers aside."""
    shared = _entries.get(id(config))
    return config._attn_implementation_internal if shared is None or shared.changed else shared.computes
