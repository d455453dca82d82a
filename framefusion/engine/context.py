"""The forward call this thread is in. State per thread, so that models reduced in other threads go undisturbed."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from framefusion.engine.decoder.forward import Call
    from framefusion.engine.vision.hooks import TowerCall


class _State(threading.local):
    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.replays: dict[int, Call] = {}
        self.tower: TowerCall | None = None
        self.tower_calls: list[TowerCall] = []


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


def tower() -> TowerCall | None:
    """The run of a watched vision tower that is under way in this thread, or None."""
    return _state.tower


def enter_tower(new: TowerCall, remember: bool) -> None:
    """remember: for this thread's prompt, until it is forgotten."""
    _state.tower = new
    if remember:
        _state.tower_calls.append(new)


def leave_tower() -> None:
    _state.tower = None


def tower_calls() -> list[TowerCall]:
    """Runs of the vision tower for this thread's prompt, images before videos."""
    return _state.tower_calls


def forget_tower() -> None:
    """A new prompt begins in this thread."""
    _state.tower, _state.tower_calls = None, []


def remember_tower(calls: list[TowerCall]) -> None:
    """A prompt that was interrupted goes on; with no calls, the prompt is over."""
    _state.tower, _state.tower_calls = None, calls
