"""Ask a method's stages what to do, row by row, and hand them the signals they want."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from framefusion.intercept.stream import Row, Step, Stream, reduce_stream, span_of
from framefusion.method import Point, Setting, Signals, Stage

if TYPE_CHECKING:
    from torch import Tensor

    from framefusion.intercept.scores import AttentionCall


class Decisions:
    """Stages of one call with the state each keeps for each row.

    query_columns: (B,) prompt column whose attention row scores tokens.
    attention: the last attention call and the stream it ran on.
    """

    def __init__(self, stages: tuple[Stage, ...], stream: Stream, layers: int, query_columns: Tensor) -> None:
        self.stages = stages
        self.query_columns = query_columns
        self.attention: tuple[AttentionCall, Stream] | None = None
        self._points = [frozenset(stage.points(layers)) for stage in stages]
        self._states: list[list[Any]] = [
            [stage.start(Setting(layers, _in_scope(stage, row).geometry)) for row in stream.rows] for stage in stages
        ]

    def stages_at(self, point: Point) -> list[int]:
        """Numbers of the stages that act at `point`."""
        return [number for number, points in enumerate(self._points) if point in points]

    def ask(self, number: int, point: Point, stream: Stream, hidden: Tensor) -> Step | None:
        """One stage's decision for every row that still has visual tokens; None when it leaves all rows alone."""
        stage, plans = self.stages[number], []
        for index, row in enumerate(stream.rows):
            plan = None
            if len(row.geometry):
                seen = _in_scope(stage, row)
                signals = self._signals(point, index, seen.to(hidden.device), stream, hidden)
                plan, self._states[number][index] = stage.step(self._states[number][index], signals)
            plans.append(None if plan is None else (plan.to(stream.columns.device), seen))
        return reduce_stream(stream, plans) if any(plans) else None

    def _signals(self, point: Point, index: int, seen: Row, stream: Stream, hidden: Tensor) -> Signals:
        return Signals(
            point=point,
            geometry=seen.geometry,
            size=seen.size,
            hidden=lambda: hidden[index].index_select(0, seen.slots),
            has_attention=self.attention is not None,
            attention=lambda count: self._scores(index, count, stream.columns[index][seen.slots.to(stream.columns.device)]),
        )

    def _scores(self, index: int, count: int, columns: Tensor) -> Tensor:
        """(N,) scores of the tokens at prompt columns `columns`, from the last attention call."""
        if self.attention is None:
            raise RuntimeError("no attention call before this point")
        attention, at_that_time = self.attention
        last = int(at_that_time.home[index, self.query_columns[index]])
        row = attention.rows(index, last, count)[-at_that_time.length :]
        return row[at_that_time.home[index, columns].to(row.device)]


def _in_scope(stage: Stage, row: Row) -> Row:
    return span_of(row) if stage.scope == "span" else row
