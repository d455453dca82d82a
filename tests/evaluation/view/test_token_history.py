"""What became of every token, against plans written by hand and against following each token on its own."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from framefusion.core.method import IN_FRONT, after_attention, before
from framefusion.core.plan import GONE, Plan, compose
from framefusion.engine.trace import Decision
from framefusion.evaluation.view.token_history import KEPT, MERGED, NOBODY, PRUNED, Fates, fates_of


def decide(point, plan: Plan, columns) -> Decision:
    return Decision(point, 0, plan, torch.as_tensor(columns))


def two_steps() -> Fates:
    """Six tokens in columns 3 to 8: 1 and 2 join 0, 4 joins 3; then 3 is pruned and 5 joins 0."""
    first = Plan.merge(torch.tensor([0, 0, 0, 3, 3, 5]), torch.ones(6))
    plan = Plan.merge(torch.tensor([0, 1, 0]), torch.ones(3))
    pruning = Plan(
        3, torch.tensor([0]), torch.tensor([0, GONE, 0]), plan.target, plan.source, plan.weight, plan.own[:1]
    )
    columns = torch.arange(3, 9)
    return fates_of(
        columns, [decide(before(0), first, columns), decide(after_attention(2), pruning, columns[[0, 3, 5]])]
    )


def test_every_token_says_when_it_went_and_into_what():
    fates = two_steps()
    assert fates.gone.tolist() == [2, 0, 0, 1, 0, 1]
    assert fates.into.tolist() == [NOBODY, 0, 0, NOBODY, 3, 0]
    assert [(str(step.point), step.before, step.after) for step in fates.steps] == [
        ("before layer 0", 6, 3),
        ("after attention of layer 2", 3, 1),
    ]


def test_states_follow_the_survivor():
    fates = two_steps()
    assert fates.states(0).tolist() == [KEPT] * 6
    assert fates.states(1).tolist() == [KEPT, MERGED, MERGED, KEPT, MERGED, KEPT]
    assert fates.states(2).tolist() == [KEPT, MERGED, MERGED, PRUNED, PRUNED, MERGED]
    assert fates.holders(2).tolist() == [0, 0, 0, NOBODY, NOBODY, 0]
    assert fates.carried(1).tolist() == [3, 0, 0, 2, 0, 1]
    assert fates.carried(2).tolist() == [4, 0, 0, 0, 0, 0]
    assert fates.fresh(2).tolist() == [False, False, False, True, True, True]
    assert not fates.fresh(0).any()


def test_a_step_that_takes_nothing_out_is_no_step():
    columns = torch.arange(4)
    pruning = Plan.select(torch.tensor([1, 3]), 4)
    fates = fates_of(
        columns,
        [decide(before(0), Plan.identity(4), columns), decide(before(1), pruning, columns)],
        ["first", "second"],
    )
    assert [(step.method, step.after) for step in fates.steps] == [("second", 2)]
    assert fates.states(1).tolist() == [PRUNED, KEPT, PRUNED, KEPT]


def test_of_several_takers_the_one_that_stands_for_a_token_comes_first():
    """Token 1 goes to 0 and 3 in unequal shares, and 3 stands for it; 2 is nobody's but gives a share to 0."""
    plan = Plan(
        4,
        torch.tensor([0, 3]),
        torch.tensor([0, 1, GONE, 1]),
        torch.tensor([0, 1, 0]),
        torch.tensor([1, 1, 2]),
        torch.tensor([0.6, 0.1, 0.2]),
        torch.tensor([0.2, 0.9]),
    )
    fates = fates_of(torch.arange(4), [decide(IN_FRONT, plan, torch.arange(4))])
    assert fates.into.tolist() == [NOBODY, 3, 0, NOBODY]
    assert fates.shares == {1: (3, 0)}


def test_text_between_the_frames_is_no_patch():
    """The plan acts on columns 0 to 4; 1 and 3 are text, of which 3 is pruned and 1 takes a patch in."""
    plan = Plan.merge(torch.tensor([0, 1, 1, 0, 4]), torch.ones(5))
    fates = fates_of(torch.tensor([0, 2, 4]), [decide(before(0), plan, torch.arange(5))])
    assert fates.states(1).tolist() == [KEPT, PRUNED, KEPT]
    assert (fates.steps[0].before, fates.steps[0].after) == (3, 2)


@st.composite
def cascades(draw):
    """A number of tokens and a few plans in a row, each on what the one before left; some merge, some prune."""
    count = total = draw(st.integers(1, 12))
    plans = []
    for _ in range(draw(st.integers(0, 4))):
        kept = sorted(draw(st.sets(st.integers(0, count - 1), min_size=1)))
        heads = [None if draw(st.booleans()) else draw(st.sampled_from(kept)) for _ in range(count)]
        owner = [kept.index(n) if n in kept else GONE if h is None else kept.index(h) for n, h in enumerate(heads)]
        plans.append(Plan(count, torch.tensor(kept), torch.tensor(owner)))
        count = len(kept)
    return total, plans


@settings(deadline=None)
@given(cascades())
def test_holders_are_the_plans_composed(case):
    total, plans = case
    columns = torch.arange(total) * 2 + 5
    alive, decisions = columns, []
    owner, left = torch.arange(total), torch.arange(total)
    for layer, plan in enumerate(plans):
        decisions.append(decide(before(layer), plan, alive))
        alive, left = alive[plan.keep], left[plan.keep]
        owner = compose(owner, plan.owner)
    fates = fates_of(columns, decisions)
    expected = torch.where(owner == GONE, NOBODY, left[owner.clamp(min=0)])
    assert fates.holders(len(fates.steps)).tolist() == expected.tolist()
    last = len(fates.steps)
    assert (fates.states(last) == KEPT).nonzero()[0].tolist() == left.tolist()
    assert fates.carried(last).sum() == (expected != NOBODY).sum()
    for after in range(1, last + 1):
        assert (fates.states(after) == KEPT).sum() == fates.steps[after - 1].after
        # Nobody who is out comes back.
        assert not ((fates.states(after) == KEPT) & (fates.states(after - 1) != KEPT)).any()


def test_no_tokens():
    fates = fates_of(torch.zeros(0, dtype=torch.long), [])
    assert len(fates) == 0 and fates.states(0).size == 0 and fates.carried(0).size == 0


@pytest.mark.parametrize("after", [0, 1, 2])
def test_states_and_carried_agree(after):
    fates = two_steps()
    assert np.array_equal(fates.carried(after) > 0, fates.states(after) == KEPT)
