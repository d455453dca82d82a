"""Run the vision tower once for several answers about the same pictures."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from framefusion.core.newest import Newest
from framefusion.engine import context
from framefusion.engine.model.parts import find_parts, find_tower

if TYPE_CHECKING:
    from torch import nn

    from framefusion.engine.vision.run import TowerRun

# Inputs up to this size are told apart by their values, larger ones by where they lie.
SMALL = 4096


@dataclass(frozen=True)
class _Seen:
    """What went in, held so that nothing else can lie in its place, and what came out.

    signals: of the run, for methods that look into the tower; None where nobody watched.
    """

    given: Any
    output: Any
    signals: dict[str, Any] | None


@contextmanager
def shared_tower(model: nn.Module, most: int | None = None) -> Iterator[None]:
    """Inside, the tower answers a second call with the same tensors from memory, also to a method that watches it.

    most: calls that are remembered, the latest ones; None for all.

    For the same weights, and pictures that are not changed in place; what gradients flow through is made anew. A method
    that acts inside the tower always runs it anew, and so does one that leaves out patches in front of it. Times
    measured inside say nothing about the tower.
    """
    tower = find_tower(find_parts(model).entries)
    if tower is None or "forward" in vars(tower):
        yield
        return
    tower.forward = _Memory(tower.forward, most)
    try:
        yield
    finally:
        del tower.forward


class _Memory:
    def __init__(self, forward: Any, most: int | None) -> None:
        self.forward = forward
        self.seen: Newest[_Seen] = Newest(most)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        call = context.tower()
        if call is not None and (call.inside or call.partial):
            return self.forward(*args, **kwargs)
        key = _key((args, kwargs))
        before = self.seen.get(key)
        if before is not None and call is None:
            return _fresh(before.output)
        if before is not None and before.signals is not None:
            for name, value in before.signals.items():
                setattr(call, name, value)
            return _fresh(before.output)
        output = self.forward(*args, **kwargs)
        if _learns(output):
            return output
        signals = _signals(call) if call is not None and call.watched else None
        self.seen.keep(key, _Seen((args, kwargs), _fresh(output), signals))
        return output


def _learns(output: Any) -> bool:
    """Whether gradients flow through any tensor of an output."""
    if isinstance(output, torch.Tensor):
        return output.requires_grad
    parts = output.values() if isinstance(output, dict) else output if isinstance(output, (list, tuple)) else ()
    return any(map(_learns, parts))


def _fresh(output: Any) -> Any:
    """Families put what they make of it back into the tower's output; the tensors themselves stay."""
    return type(output)(**output) if isinstance(output, dict) else output


def _signals(call: TowerRun) -> dict[str, Any]:
    return {name: getattr(call, name) for name in ("layers", "projected", "head")}


def _key(value: Any) -> Hashable:
    if isinstance(value, torch.Tensor):
        if value.numel() <= SMALL:
            return value.dtype, tuple(value.shape), tuple(value.flatten().tolist())
        return value.dtype, tuple(value.shape), value.stride(), value.data_ptr(), value._version
    if isinstance(value, (list, tuple)):
        return tuple(map(_key, value))
    if isinstance(value, dict):
        return tuple((name, _key(part)) for name, part in sorted(value.items()))
    return value if isinstance(value, (str, int, float, bool, type(None))) else id(value)
