"""The forward call this thread is in. State per thread, so that models reduced in other threads go undisturbed."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from framefusion.intercept.call import Call


class _State(threading.local):
    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.replays: dict[int, Call] = {}


_state = _State()


def call() -> Call | None:
    """The innermost decoder call under way in this thread, or None."""
    return _state.calls[-1] if _state.calls else None


def enter(new: Call) -> None:
    _state.calls.append(new)
    _state.replays.clear()


def leave(old: Call) -> None:
    """End `old` and whatever an exception left open above it."""
    if old in _state.calls:
        del _state.calls[_state.calls.index(old) :]


def replay(layer: int, old: Call | None) -> None:
    """A layer of the finished call `old` runs again in the backward pass of this thread."""
    if old is None:
        _state.replays.pop(layer, None)
    else:
        _state.replays[layer] = old


def replayed(layer: int) -> Call | None:
    """The call whose `layer` is being run again, or None."""
    return _state.replays.get(layer)
