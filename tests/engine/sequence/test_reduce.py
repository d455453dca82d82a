"""A batch of ragged rows through random plans, against plain lists."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from framefusion.core.layout import Layout
from framefusion.core.plan import GONE, Plan
from framefusion.engine.sequence.reduce import reduce_sequence
from framefusion.engine.sequence.state import SequenceState
from tests.support.oracle import dense_matrix
from tests.support.plans import layouts, plans

quick = settings(max_examples=60, deadline=None)
WIDTH = 2


class PlainRow:
    """One row as lists: living columns, a value each, sizes of visual ones, and who stands for every column."""

    def __init__(self, columns, visual, values):
        self.columns = list(columns)
        self.values = dict(zip(self.columns, values, strict=True))
        self.size = {column: 1.0 for column in visual}
        self.stands = {column: column for column in self.columns}

    def perform(self, plan):
        visual = sorted(self.size)
        mixed = dense_matrix(plan) @ torch.stack([self.values[column] for column in visual])
        living = [visual[index] for index in plan.keep.tolist()]
        self.values.update(zip(living, mixed, strict=True))
        size = {column: 0.0 for column in living}
        for column, slot in zip(visual, plan.owner.tolist(), strict=True):
            if slot != GONE:
                size[living[slot]] += self.size[column]
        gone = set(visual) - set(living)
        self.columns = [column for column in self.columns if column not in gone]
        heir = {
            column: self._heir(column, slot, living) for column, slot in zip(visual, plan.owner.tolist(), strict=True)
        }
        self.stands = {column: heir.get(standing, standing) for column, standing in self.stands.items()}
        self.size = size

    def _heir(self, column, slot, living):
        if slot != GONE:
            return living[slot]
        return max((other for other in self.columns if other < column), default=self.columns[0])


@quick
@given(st.data())
def test_random_plans_over_ragged_rows(data):
    layout, real = data.draw(layouts())
    hidden = torch.randn(*real.shape, WIDTH, generator=torch.Generator().manual_seed(1))
    stream = SequenceState.begin(layout, *real.shape, real, hidden.device)
    plain = [
        PlainRow(mask.nonzero().flatten().tolist(), placement.columns.tolist(), row[mask])
        for mask, row, (_, placement) in zip(real, hidden, layout.rows, strict=True)
    ]
    text = [set(row.columns) - set(row.size) for row in plain]
    for _ in range(data.draw(st.integers(1, 3))):
        chosen = [
            (data.draw(plans(len(row.geometry), row.size)), row)
            if len(row.geometry) and data.draw(st.booleans())
            else None
            for row in stream.rows
        ]
        before, version = hidden.clone(), stream.version
        step = reduce_sequence(stream, chosen)
        short = step.apply(hidden)
        assert torch.equal(hidden, before) and stream.version == version
        for row, entry in zip(plain, chosen, strict=True):
            if entry is not None:
                row.perform(entry[0])
        hidden, stream = short, step.after
        check(stream, hidden, plain, text)


def check(stream, hidden, plain, text):
    """The stream is the lists: order, text, values, sizes, places, representatives."""
    expanded = stream.expand_to_prompt(hidden)
    removed = stream.removed_columns()
    living = stream.living_columns()
    for number, (row, words) in enumerate(zip(plain, text, strict=True)):
        assert living[number] == row.columns == sorted(row.columns)
        assert words <= set(living[number])
        ours = stream.rows[number]
        assert stream.columns[number][ours.slots].tolist() == sorted(row.size)
        assert ours.size.tolist() == [row.size[column] for column in sorted(row.size)]
        for column, standing in row.stands.items():
            torch.testing.assert_close(expanded[number, column], row.values[standing])
            assert bool(removed[number, column]) == (column not in row.columns)


@quick
@given(st.data())
def test_planes_follow_the_plans(data):
    """Features the model adds later are reduced as the hidden states are."""
    layout, real = data.draw(layouts())
    stream = SequenceState.begin(layout, *real.shape, real, torch.device("cpu"))
    chosen = [(data.draw(plans(len(row.geometry))), row) if len(row.geometry) else None for row in stream.rows]
    rows = [torch.randn(len(row.geometry), WIDTH) for row in stream.rows]
    reduced = reduce_sequence(stream, chosen).apply_to_visual(rows)
    for values, entry, found in zip(rows, chosen, reduced, strict=True):
        torch.testing.assert_close(found, values if entry is None else dense_matrix(entry[0]) @ values)


def test_rows_that_all_stay_are_left_where_they_are():
    layout = Layout.from_patch_types([[-1, 0, 1, -1], [-1, -1, 0, 1]])
    stream = SequenceState.begin(layout, 2, 4, torch.tensor([[True] * 4, [False] + [True] * 3]), torch.device("cpu"))
    step = reduce_sequence(stream, [(Plan.identity(2), row) for row in stream.rows])
    hidden = torch.randn(2, 4, 3)
    assert torch.equal(step.apply(hidden), hidden)
    assert torch.equal(step.after.columns, stream.columns) and torch.equal(step.after.valid, stream.valid)
