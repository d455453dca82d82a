"""Ask a method's stages what to do, row by row, and hand them the signals they want."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from framefusion.core.errors import MissingSignalError
from framefusion.core.method import Point, Setting, Signals, Stage
from framefusion.core.stage import ProjectorStage, VisionStage, join_patches
from framefusion.engine.decoder.signals import KEYS, SCORES, RowSignals, reads_attention, span_of, told
from framefusion.engine.sequence.reduce import reduce_sequence
from framefusion.engine.vision.repeats import repeated_tokens

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from framefusion.core.plan import Plan
    from framefusion.engine.decoder.attention import LayerAttention
    from framefusion.engine.sequence.reduce import ReductionStep
    from framefusion.engine.sequence.state import SequenceState, VisualRow
    from framefusion.engine.vision.signals import Pictures


class Decisions:
    """Stages of one forward pass with the state each keeps for each row.

    query_columns: (B,) prompt column whose attention row scores tokens. pictures: what the vision tower saw, None where
    nobody observed it. positions: what the decoder was given as such, None if nothing. early: by row, the plans of the
    latest answer that were carried out before the decoder ran, with the values that are not merged again.
    """

    def __init__(
        self,
        stages: tuple[Stage, ...],
        state: SequenceState,
        layers: int,
        query_columns: Tensor,
        pictures: Pictures | None = None,
        positions: Any = None,
    ) -> None:
        self.stages, self.query_columns, self.pictures = stages, query_columns, pictures
        self.positions = positions
        self.early: dict[int, Plan] = {}
        self.wants_keys = any(stage.needs & KEYS for stage in stages)
        self._layers = layers
        self._points = [frozenset(stage.points(layers)) for stage in stages]
        self._states: list[list[Any]] = [
            [stage.start(Setting(layers, _in_scope(stage, row).geometry)) for row in state.rows] for stage in stages
        ]

    def stages_at(self, point: Point) -> list[int]:
        """Numbers of the stages that act at `point`."""
        return [number for number, points in enumerate(self._points) if point in points]

    def check_attention(self, module: str, attention: LayerAttention | None) -> None:
        """Called when an attention `module` has run. Raises MissingSignalError if stages wait for what nobody saw."""
        if attention is None and any(map(reads_attention, self.stages)):
            raise MissingSignalError(
                f"the attention of {module} cannot be observed",
                "its code computes attention itself, without the attention interface of transformers",
                "use a method that does not read attention, such as framefusion.DivPrune",
            )

    def ask(
        self, number: int, point: Point, state: SequenceState, hidden: Tensor, attention: LayerAttention | None = None
    ) -> ReductionStep | None:
        """One stage's decision for every row that still has visual tokens; None when it leaves all rows alone.

        hidden: (B, K, D) entering `point`. attention: the latest call before it.
        """
        stage, plans = self.stages[number], []
        self.early, text = {}, {}
        for index, row in enumerate(state.rows):
            plan = None
            if len(row.geometry):
                seen = _in_scope(stage, row)
                rows = RowSignals(
                    index,
                    seen.to(hidden.device),
                    state,
                    attention,
                    self.query_columns[index],
                    self._layers,
                    self.positions,
                )
                signals = self._signals(stage, point, rows, hidden)
                made = self._made_before(stage, index, hidden.device)
                if any(made):
                    plan = self._rest_of(stage, index, signals, made)
                else:
                    plan, self._states[number][index] = stage.step(self._states[number][index], signals)
                if plan is not None and plan.learned is not None and plan.learned.text is not None:
                    text[index] = rows.text_slots
            plans.append(None if plan is None else (plan.to(state.columns.device), seen))
        return reduce_sequence(state, plans, text) if any(plans) else None

    def _made_before(self, stage: Stage, index: int, device: torch.device) -> list[Plan | None]:
        """For every picture of the row, what this stage decided before the decoder ran, None where it did not."""
        made: list[Plan | None] = []
        for run, place, group in self.pictures.of_row(index) if self.pictures is not None else ():
            plans = None if run is None else run.plans_of(stage)
            fits = plans is not None and plans[place].count == group.numel()
            made.append(plans[place].to(device) if plans is not None and fits else None)
        return made

    def _rest_of(self, stage: Stage, index: int, signals: Signals, made: list[Plan | None]) -> Plan:
        """What is left to do where some pictures were merged before the decoder ran: the choice without the values."""
        assert isinstance(stage, (ProjectorStage, VisionStage))
        parts = stage.parts(signals, made)
        self.early[index] = join_patches(signals.geometry, parts)
        rest = [
            (group, plan if before is None else replace(plan, target=None, source=None, weight=None, own=None))
            for (group, plan), before in zip(parts, made, strict=True)
        ]
        return join_patches(signals.geometry, rest)

    def _watched(self) -> Pictures:
        if self.pictures is None:
            raise MissingSignalError("nobody watched the vision tower", "the stage did not say that it needs it")
        return self.pictures

    def _signals(self, stage: Stage, point: Point, rows: RowSignals, hidden: Tensor) -> Signals:
        states, seen = hidden[rows.index], rows.seen
        # A stage that only looks while it decides needs no copy.
        borrows = getattr(stage, "borrows", False)
        # The last attention layer may lie on another device than this point.
        device = hidden.device
        return Signals(
            point=point,
            geometry=seen.geometry,
            size=seen.size,
            hidden=lambda: seen.states(states) if borrows else states.index_select(0, seen.slots),
            text=lambda: states.index_select(0, rows.text_slots.to(device)),
            asks=lambda: rows.text_slots.to(device) > seen.slots[-1],
            has_attention=rows.sees() if stage.needs & SCORES else rows.ran,
            attention=lambda count: told(stage, rows).attention(point, count).to(device),
            text_attention=lambda: told(stage, rows).text_attention(point).to(device),
            keys=lambda: told(stage, rows).keys(point, seen.slots).to(device),
            text_keys=lambda: told(stage, rows).keys(point, rows.text_slots).to(device),
            vision=lambda: self._watched().signals(rows.index, seen.origin),
            repeats=lambda: repeated_tokens(seen.geometry, self._watched().of_row(rows.index)).to(device),
            gate=seen.gate,
            mean_logits=lambda: told(stage, rows).mean_logits(point).to(device),
            positions=lambda: rows.positions(seen.slots).to(device),
            text_positions=lambda: rows.positions(rows.text_slots).to(device),
        )


def _in_scope(stage: Stage, row: VisualRow) -> VisualRow:
    return span_of(row) if stage.scope == "span" else row
