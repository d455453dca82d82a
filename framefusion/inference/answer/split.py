"""Where the time of an answer goes: the vision tower and the projector, apart from the language model."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from framefusion.core.errors import FrameFusionError
from framefusion.engine.model.parts import find_parts, find_projector, find_tower, tower_holder

if TYPE_CHECKING:
    from torch import nn


@dataclass
class VisionTimes:
    """Milliseconds of every call. A projector inside the tower (Qwen-VL) is not counted twice."""

    tower: list[float] = field(default_factory=list)
    projector: list[float] = field(default_factory=list)
    nested: bool = False

    @property
    def tower_ms(self) -> float | None:
        """Without the projector; None where no tower ran."""
        inside = sum(self.projector) if self.nested else 0.0
        return sum(self.tower) - inside if self.tower else None

    @property
    def projector_ms(self) -> float | None:
        return sum(self.projector) if self.projector else None


@contextmanager
def vision_times(model: Any) -> Iterator[VisionTimes]:
    """Time tower and projector inside the block. Enter it behind a reduction, so that what that does there counts."""
    try:
        entries = find_parts(model).entries
    except FrameFusionError:  # a model that cannot be reduced is not looked into
        yield VisionTimes()
        return
    tower, projector = find_tower(entries), find_projector(entries)
    if projector is None:  # VideoLLaMA 3's, which is not one token for each of its inputs
        projector = getattr(tower_holder(entries), "projector", None)
    with ExitStack() as stack:
        parts: tuple[Any, Any] = (tower, projector)
        spent = [stack.enter_context(timed(part)) if part is not None else [] for part in parts]
        nested = tower is not None and any(part is projector for part in tower.modules())
        yield VisionTimes(spent[0], spent[1], nested)


@contextmanager
def timed(module: nn.Module) -> Iterator[list[float]]:
    """Milliseconds of each call of a module, and of what other hooks do in front of it and behind it."""
    started: list[float] = []
    spent: list[float] = []

    def begin(*_: Any) -> None:
        started.append(_now(module))

    def end(*_: Any) -> None:
        spent.append((_now(module) - started.pop()) * 1e3)

    handles = module.register_forward_pre_hook(begin, prepend=True), module.register_forward_hook(end)
    try:
        yield spent
    finally:
        for handle in handles:
            handle.remove()


def _now(module: nn.Module) -> float:
    """Seconds, when the device has done its work."""
    import torch

    weight = next(module.parameters(), None)
    if weight is not None and weight.device.type == "cuda":
        torch.cuda.synchronize(weight.device)
    return time.perf_counter()
