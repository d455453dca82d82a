"""What a forward pass did, in numbers; the report is made from these."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from framefusion.method import Point
    from framefusion.plan import Plan


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


@dataclass
class LayerTrace:
    """One decoder layer in one prefill.

    visual: alive visual tokens of each row when the layer's attention read them. visual_mlp: when its MLP did.
    length, mlp_length: sequence length of the whole batch at the same places, text and padding included.
    kv_bytes: keys and values the layer added for this prompt, and the states of its convolution or recurrence.
    kv_bytes_dense: what it adds without reduction.
    """

    visual: list[int] = field(default_factory=list)
    visual_mlp: list[int] = field(default_factory=list)
    length: int = 0
    mlp_length: int = 0
    kv_bytes: int = 0
    kv_bytes_dense: int = 0


@dataclass
class PromptTrace:
    """One prefill of a batch.

    visual: visual tokens of each row as the prompt brought them. length: prompt columns. decisions: every plan in the
    order it was applied. steps: the same by stage. moved_points: whether plans meant to act before an MLP had to
    act after it.
    """

    visual: list[int]
    length: int
    layers: list[LayerTrace]
    decisions: list[Decision] = field(default_factory=list)
    steps: list[StepTrace] = field(default_factory=list)
    moved_points: bool = False
