"""Ask a method's stages what to do, row by row, and hand them the signals they want."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from framefusion.errors import MissingSignalError
from framefusion.intercept.features import without_values
from framefusion.intercept.row_signals import Attended, RowSignals
from framefusion.intercept.stream import Row, Step, Stream, reduce_stream, span_of
from framefusion.method import Point, Setting, Signals, Stage, VisionSignals
from framefusion.stage import ProjectorStage, VisionStage, join_patches

if TYPE_CHECKING:
    from torch import Tensor

    from framefusion.intercept.pictures import Pictures
    from framefusion.plan import Plan


SCORES = frozenset({"attention", "text_attention"})
KEYS = frozenset({"keys", "text_keys"})
FROM_ATTENTION = SCORES | KEYS


class Decisions:
    """Stages of one call with the state each keeps for each row.

    query_columns: (B,) prompt column whose attention row scores tokens.
    attended: the last attention call. pictures: what the vision tower saw, None where nobody watched it. whole: by row,
    the plans of the latest answer that were carried out before the decoder ran, with the values that are not merged
    again.
    """

    def __init__(
        self,
        stages: tuple[Stage, ...],
        stream: Stream,
        layers: int,
        query_columns: Tensor,
        pictures: Pictures | None = None,
    ) -> None:
        self.pictures = pictures
        self.stages = stages
        self.query_columns = query_columns
        self.attended: Attended | None = None
        self._layers = layers
        self.whole: dict[int, Plan] = {}
        self._wants_attention = any(stage.needs & FROM_ATTENTION for stage in stages)
        self.wants_keys = any(stage.needs & KEYS for stage in stages)
        self._points = [frozenset(stage.points(layers)) for stage in stages]
        self._states: list[list[Any]] = [
            [stage.start(Setting(layers, _in_scope(stage, row).geometry)) for row in stream.rows] for stage in stages
        ]

    def stages_at(self, point: Point) -> list[int]:
        """Numbers of the stages that act at `point`."""
        return [number for number, points in enumerate(self._points) if point in points]

    def check_attention(self, module: str) -> None:
        """Called when an attention `module` has run. Raises MissingSignalError if stages wait for what nobody saw."""
        if self._wants_attention and self.attended is None:
            raise MissingSignalError(
                f"the attention of {module} cannot be observed",
                "its code computes attention itself, without the attention interface of transformers",
                "use a method that does not read attention, such as framefusion.DivPrune",
            )

    def ask(self, number: int, point: Point, stream: Stream, hidden: Tensor) -> Step | None:
        """One stage's decision for every row that still has visual tokens; None when it leaves all rows alone."""
        stage, plans = self.stages[number], []
        self.whole = {}
        for index, row in enumerate(stream.rows):
            plan = None
            if len(row.geometry):
                seen = _in_scope(stage, row)
                signals = self._signals(point, index, seen.to(hidden.device), stream, hidden, stage)
                made = self._made_before(stage, index, hidden.device)
                if any(made):
                    plan = self._rest_of(stage, index, signals, made)
                else:
                    plan, self._states[number][index] = stage.step(self._states[number][index], signals)
            plans.append(None if plan is None else (plan.to(stream.columns.device), seen))
        return reduce_stream(stream, plans) if any(plans) else None

    def _made_before(self, stage: Stage, index: int, device: torch.device) -> list[Plan | None]:
        """For every picture of the row, what this stage decided before the decoder ran, None where it did not."""
        found = []
        for call, place, group in self.pictures.of_row(index) if self.pictures is not None else ():
            plans = None if call is None else call.plans_of(stage)
            fits = plans is not None and plans[place].count == group.numel()
            found.append(plans[place].to(device) if plans is not None and fits else None)
        return found

    def _rest_of(self, stage: Stage, index: int, signals: Signals, made: list[Plan | None]) -> Plan:
        """What is left to do where some pictures were merged before the decoder ran."""
        assert isinstance(stage, (ProjectorStage, VisionStage))
        parts = stage.parts(signals, made)
        self.whole[index] = join_patches(signals.geometry, parts)
        left = [plan if before is None else without_values(plan) for (_, plan), before in zip(parts, made, strict=True)]
        return join_patches(signals.geometry, [(group, plan) for (group, _), plan in zip(parts, left, strict=True)])

    def _vision(self, index: int, seen: Row) -> VisionSignals:
        if self.pictures is None:
            raise MissingSignalError("nobody watched the vision tower", "the stage did not say that it needs it")
        return self.pictures.signals(index, seen.origin)

    def _signals(self, point: Point, index: int, seen: Row, stream: Stream, hidden: Tensor, stage: Stage) -> Signals:
        rows = RowSignals(index, seen, stream, self.attended, self.query_columns[index], self._layers)
        borrows = _borrows(stage)
        # The last attention layer may lie on another device than this point.
        device = hidden.device
        return Signals(
            point=point,
            geometry=seen.geometry,
            size=seen.size,
            hidden=lambda: seen.states(hidden[index]) if borrows else hidden[index].index_select(0, seen.slots),
            text=lambda: hidden[index].index_select(0, rows.text_slots.to(device)),
            asks=lambda: rows.text_slots.to(device) > seen.slots[-1],
            has_attention=rows.sees() if stage.needs & SCORES else self.attended is not None,
            attention=lambda count: _told(stage, rows).attention(point, count).to(device),
            text_attention=lambda: _told(stage, rows).text_attention(point).to(device),
            keys=lambda: _told(stage, rows).keys(point).to(device),
            text_keys=lambda: _told(stage, rows).text_keys(point).to(device),
            vision=lambda: self._vision(index, seen),
        )


def _told(stage: Stage, rows: RowSignals) -> RowSignals:
    """The signals of the row, for a stage that said that it reads attention or keys."""
    if not stage.needs & FROM_ATTENTION:
        raise MissingSignalError(
            "the attention was not observed for this stage",
            "the stage did not say that it reads attention or keys",
            'name the signal in its `needs`, as in needs=frozenset({"attention"})',
        )
    return rows


def _borrows(stage: Stage) -> bool:
    """Whether the stage only looks at hidden states while it decides, so that they need not be copied for it."""
    return getattr(stage, "borrows", False)


def _in_scope(stage: Stage, row: Row) -> Row:
    return span_of(row) if stage.scope == "span" else row
