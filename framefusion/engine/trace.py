"""What a forward pass of the decoder did, in numbers: made once, when it is over; report and view read it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from torch import Tensor

    from framefusion.core.layout import Layout
    from framefusion.core.method import Point
    from framefusion.core.plan import Plan
    from framefusion.engine.sequence.state import SequenceState


@dataclass(frozen=True)
class Decision:
    """One plan as it was applied.

    point: where it acted; before the decoder as soon as one picture was merged there. row: of the batch.
    columns: (N,) prompt columns of the tokens the plan acts on.
    """

    point: Point
    row: int
    plan: Plan
    columns: Tensor


@dataclass(frozen=True)
class StepTrace:
    """One stage acting on the whole batch.

    stage: number of the stage within its method. point: as in `Decision`. before, after: visual tokens of each row.
    """

    stage: int
    point: Point
    before: list[int]
    after: list[int]


@dataclass(frozen=True)
class LayerTrace:
    """One decoder layer in one forward pass.

    visual: alive visual tokens of each row when the layer's attention read them. visual_mlp: when its MLP did.
    length, mlp_length: sequence length of the whole batch at the same places, text and padding included.
    kv_bytes: keys and values the layer added for this prompt, and the states of its convolution or recurrence.
    kv_bytes_dense: what it adds without reduction.
    """

    visual: tuple[int, ...] = ()
    visual_mlp: tuple[int, ...] = ()
    length: int = 0
    mlp_length: int = 0
    kv_bytes: int = 0
    kv_bytes_dense: int = 0


@dataclass(frozen=True)
class BlockTrace:
    """One block of the vision tower: patches that its attention and its MLP worked on, and all there are."""

    attention: int = 0
    mlp: int = 0
    dense: int = 0

    def __add__(self, other: BlockTrace) -> BlockTrace:
        return BlockTrace(self.attention + other.attention, self.mlp + other.mlp, self.dense + other.dense)


@dataclass(frozen=True)
class TowerTrace:
    """The runs of the vision tower for one prompt batch.

    patches: encoded. patches_dense: what the pictures hold. repeats: by row, (N,) the visual token whose encoding each
    one shows, its own number where it was encoded. All of these only where a stage decided from pixels. blocks: what
    each of its blocks worked on.
    """

    patches: int
    patches_dense: int
    repeats: tuple[Tensor, ...] = ()
    blocks: tuple[BlockTrace, ...] = ()


@dataclass(frozen=True, eq=False)
class ForwardTrace:
    """One forward pass over a batch. Nothing here leads to the model, which a report may outlive.

    reduces: whether stages could act. past: columns cached before. length: columns of the pass. layout: of its visual
    tokens. visual: visual tokens of each row as the prompt brought them. sequence: behind the last layer. decisions:
    every plan in the order it was applied. steps: the same by stage. moved_points: whether plans meant to act before an
    MLP had to act after it. tower: what its pictures cost, where a stage decided what is encoded.
    """

    reduces: bool
    past: int
    length: int
    layout: Layout | None
    visual: list[int]
    sequence: SequenceState
    layers: tuple[LayerTrace, ...]
    decisions: tuple[Decision, ...]
    steps: tuple[StepTrace, ...]
    moved_points: bool
    clock: Clock
    tower: TowerTrace | None = None


class Clock:
    """Wall time on a CPU, a pair of events on a GPU that are read, and waited for, only when somebody asks."""

    def __init__(self, device: torch.device) -> None:
        self._events: tuple[Any, Any] | None = None
        self._seconds = 0.0
        if device.type == "cuda":
            self._events = (torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True))
            self._events[0].record()
        self._started = time.perf_counter()

    def stop(self) -> None:
        self._seconds = time.perf_counter() - self._started
        if self._events is not None:
            self._events[1].record()

    def milliseconds(self) -> float:
        if self._events is None:
            return self._seconds * 1e3
        self._events[1].synchronize()
        return self._events[0].elapsed_time(self._events[1])
