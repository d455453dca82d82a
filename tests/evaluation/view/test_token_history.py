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
from framefusion.evaluation.view.token_history import KEPT, MERGED, NOBODY, PRUNED, TokenHistory, history_of


def decide(point, plan: Plan, columns) -> Decision:
    return Decision(point, 0, plan, torch.as_tensor(columns))


def two_steps() -> TokenHistory:
    """Six tokens in columns 3 to 8: 1 and 2 join 0, 4 joins 3; then 3 is pruned and 5 joins 0."""
    first = Plan.merge(torch.tensor([0, 0, 0, 3, 3, 5]), torch.ones(6))
    plan = Plan.merge(torch.tensor([0, 1, 0]), torch.ones(3))
    pruning = Plan(
        3, torch.tensor([0]), torch.tensor([0, GONE, 0]), plan.target, plan.source, plan.weight, plan.own[:1]
    )
    columns = torch.arange(3, 9)
    return history_of(
        columns, [decide(before(0), first, columns), decide(after_attention(2), pruning, columns[[0, 3, 5]])]
    )


def test_every_token_says_when_it_went_and_into_what():
    history = two_steps()
    assert history.gone.tolist() == [2, 0, 0, 1, 0, 1]
    assert history.into.tolist() == [NOBODY, 0, 0, NOBODY, 3, 0]
    assert [(str(step.point), step.before, step.after) for step in history.steps] == [
        ("before layer 0", 6, 3),
        ("after attention of layer 2", 3, 1),
    ]


def test_states_follow_the_survivor():
    history = two_steps()
    assert history.states(0).tolist() == [KEPT] * 6
    assert history.states(1).tolist() == [KEPT, MERGED, MERGED, KEPT, MERGED, KEPT]
    assert history.states(2).tolist() == [KEPT, MERGED, MERGED, PRUNED, PRUNED, MERGED]
    assert history.holders(2).tolist() == [0, 0, 0, NOBODY, NOBODY, 0]
    assert history.carried(1).tolist() == [3, 0, 0, 2, 0, 1]
    assert history.carried(2).tolist() == [4, 0, 0, 0, 0, 0]
    assert history.fresh(2).tolist() == [False, False, False, True, True, True]
    assert not history.fresh(0).any()


def test_a_step_that_takes_nothing_out_is_no_step():
    columns = torch.arange(4)
    pruning = Plan.select(torch.tensor([1, 3]), 4)
    history = history_of(
        columns,
        [decide(before(0), Plan.identity(4), columns), decide(before(1), pruning, columns)],
        ["first", "second"],
    )
    assert [(step.method, step.after) for step in history.steps] == [("second", 2)]
    assert history.states(1).tolist() == [PRUNED, KEPT, PRUNED, KEPT]


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
    history = history_of(torch.arange(4), [decide(IN_FRONT, plan, torch.arange(4))])
    assert history.into.tolist() == [NOBODY, 3, 0, NOBODY]
    assert history.shares == {1: (3, 0)}


def test_text_between_the_frames_is_no_patch():
    """The plan acts on columns 0 to 4; 1 and 3 are text, of which 3 is pruned and 1 takes a patch in."""
    plan = Plan.merge(torch.tensor([0, 1, 1, 0, 4]), torch.ones(5))
    history = history_of(torch.tensor([0, 2, 4]), [decide(before(0), plan, torch.arange(5))])
    assert history.states(1).tolist() == [KEPT, PRUNED, KEPT]
    assert (history.steps[0].before, history.steps[0].after) == (3, 2)


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
    history = history_of(columns, decisions)
    expected = torch.where(owner == GONE, NOBODY, left[owner.clamp(min=0)])
    assert history.holders(len(history.steps)).tolist() == expected.tolist()
    last = len(history.steps)
    assert (history.states(last) == KEPT).nonzero()[0].tolist() == left.tolist()
    assert history.carried(last).sum() == (expected != NOBODY).sum()
    for after in range(1, last + 1):
        assert (history.states(after) == KEPT).sum() == history.steps[after - 1].after
        # Nobody who is out comes back.
        assert not ((history.states(after) == KEPT) & (history.states(after - 1) != KEPT)).any()


def test_no_tokens():
    history = history_of(torch.zeros(0, dtype=torch.long), [])
    assert len(history) == 0 and history.states(0).size == 0 and history.carried(0).size == 0


@pytest.mark.parametrize("after", [0, 1, 2])
def test_states_and_carried_agree(after):
    history = two_steps()
    assert np.array_equal(history.carried(after) > 0, history.states(after) == KEPT)
