"""Counts what a forward pass does while it runs; the trace is made of it at the end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from framefusion.engine.decoder.kv_cache import state_bytes
from framefusion.engine.trace import Clock, Decision, ForwardTrace, LayerTrace, StepTrace

if TYPE_CHECKING:
    from framefusion.core.layout import Layout
    from framefusion.core.method import Point
    from framefusion.core.plan import Plan
    from framefusion.engine.attention_call import AttentionCall
    from framefusion.engine.sequence.reduce import ReductionStep
    from framefusion.engine.sequence.state import SequenceState
    from framefusion.engine.trace import TowerTrace


class Recorder:
    """Of one forward pass over `sequence` through `layers` layers."""

    def __init__(self, sequence: SequenceState, layers: int) -> None:
        self._length, self._visual = sequence.length, sequence.visual_counts()
        self._layers: list[dict[str, Any]] = [{} for _ in range(layers)]
        self._decisions: list[Decision] = []
        self._steps: list[StepTrace] = []
        self._clock = Clock(sequence.columns.device)

    def attention_begins(self, layer: int, sequence: SequenceState) -> None:
        self._count(layer, visual=tuple(sequence.visual_counts()), length=sequence.length)

    def mlp_begins(self, layer: int, sequence: SequenceState, length: int) -> None:
        """length: of what the MLP reads, which autograd may have left long."""
        self._count(layer, visual_mlp=tuple(sequence.visual_counts()), mlp_length=length)

    def attention(self, layer: int, call: AttentionCall, length: int) -> None:
        """length: slots whose keys and values the layer adds."""
        per_slot = sum(part.numel() // part.shape[2] * part.element_size() for part in (call.key, call.value))
        self._count(layer, kv_bytes=per_slot * length, kv_bytes_dense=per_slot * self._length)

    def step(
        self, stage: int, point: Point, step: ReductionStep, before: SequenceState, early: dict[int, Plan]
    ) -> None:
        """before: the sequence it shortens. early: by row, plans that were carried out before the decoder ran."""
        for cut in step.cuts:
            columns = before.columns[cut.number][cut.old]
            self._decisions.append(Decision(point, cut.number, early.get(cut.number, cut.plan), columns))
        self._steps.append(StepTrace(stage, point, before.visual_counts(), step.after.visual_counts()))

    def trace(
        self,
        reduces: bool,
        past: int,
        layout: Layout | None,
        sequence: SequenceState,
        cache: Any,
        moved_points: bool,
        tower: TowerTrace | None = None,
    ) -> ForwardTrace:
        """The pass is over. sequence: behind the last layer. cache: as the pass left it; the others: as there."""
        self._clock.stop()
        entries = getattr(cache, "layers", ()) if reduces else ()
        for layer, entry in zip(range(len(self._layers)), entries, strict=False):
            size, counted = state_bytes(entry), self._layers[layer]
            counted.update({name: counted.get(name, 0) + size for name in ("kv_bytes", "kv_bytes_dense")})
        return ForwardTrace(
            reduces,
            past,
            self._length,
            layout,
            self._visual,
            sequence,
            tuple(LayerTrace(**counted) for counted in self._layers),
            tuple(self._decisions),
            tuple(self._steps),
            moved_points,
            self._clock,
            tower,
        )

    def _count(self, layer: int, **counted: Any) -> None:
        self._layers[layer].update(counted)
