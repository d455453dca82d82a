"""What this thread is in the middle of. State per thread, so that models reduced in other threads go undisturbed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from framefusion.engine.attention_call import AttentionCall
    from framefusion.engine.decoder.forward import Forward
    from framefusion.engine.vision.run import TowerRun


Watcher = Callable[[int, "AttentionCall"], None]
"""(decoder layer, its attention call)."""


class _State(threading.local):
    def __init__(self) -> None:
        self.forwards: list[Forward] = []
        self.replays: dict[int, Forward] = {}
        self.attending: tuple[int, int] = (0, 0)
        self.tower: TowerRun | None = None
        self.tower_runs: list[TowerRun] = []
        self.watcher: Watcher | None = None


_state = _State()


def forward() -> Forward | None:
    """The innermost forward pass of a decoder under way in this thread, or None."""
    return _state.forwards[-1] if _state.forwards else None


def enter(new: Forward) -> None:
    _state.forwards.append(new)
    _state.replays.clear()


def leave(old: Forward) -> None:
    """End `old` and whatever an exception left open above it."""
    if old in _state.forwards:
        del _state.forwards[_state.forwards.index(old) :]


def replay(layer: int, old: Forward | None, attention: Any = None) -> None:
    """A layer of the finished pass `old` runs again in the backward pass of this thread. attention: its module."""
    _state.attending = layer, id(attention)
    if old is None:
        _state.replays.pop(layer, None)
    else:
        _state.replays[layer] = old


def replayed(layer: int) -> Forward | None:
    """The pass whose `layer` is being run again, or None."""
    return _state.replays.get(layer)


def replayed_in(attention: Any) -> tuple[int, Forward | None]:
    """The layer whose `attention` module is being run again, and the pass it was part of, or None."""
    layer, module = _state.attending
    return layer, replayed(layer) if module == id(attention) else None


def tower() -> TowerRun | None:
    """The run of an observed vision tower that is under way in this thread, or None."""
    return _state.tower


def enter_tower(new: TowerRun, remember: bool) -> None:
    """remember: for this thread's prompt, until it is forgotten."""
    _state.tower = new
    if remember:
        _state.tower_runs.append(new)


def leave_tower() -> None:
    _state.tower = None


def tower_runs() -> list[TowerRun]:
    """Runs of the vision tower for this thread's prompt, images before videos."""
    return _state.tower_runs


def set_tower_runs(runs: list[TowerRun]) -> None:
    """Those of a prompt that goes on after another interrupted it; none where a prompt begins or is over."""
    _state.tower, _state.tower_runs = None, runs


def watcher() -> Watcher | None:
    """What is shown every attention call of a decoder in this thread, or None."""
    return _state.watcher


@contextmanager
def watched_by(watcher: Watcher) -> Iterator[None]:
    """Show `watcher` every attention call that a decoder makes in this thread within the block."""
    before, _state.watcher = _state.watcher, watcher
    try:
        yield
    finally:
        _state.watcher = before
