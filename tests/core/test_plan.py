"""Plans against the plainest thing they could mean: a dense matrix, and sets of originals."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from framefusion.core.errors import OptionError
from framefusion.core.plan import GONE, Plan, compose
from tests.support.oracle import dense_matrix
from tests.support.plans import heads, plans

quick = settings(max_examples=60, deadline=None)
counts = st.integers(1, 9)
a_plan = counts.flatmap(plans)


def values_of(count, width=3, seed=0):
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed + count))


@quick
@given(a_plan)
def test_apply_is_a_dense_matrix(plan):
    values = values_of(plan.count)
    before = values.clone()
    torch.testing.assert_close(plan.apply(values), dense_matrix(plan) @ values)
    assert torch.equal(values, before)


@quick
@given(a_plan)
def test_apply_keeps_shape_and_precision(plan):
    values = values_of(plan.count).view(plan.count, 1, 3).bfloat16()
    applied = plan.apply(values)
    assert applied.shape == (plan.kept, 1, 3) and applied.dtype == torch.bfloat16
    exact = dense_matrix(plan) @ values.float().view(plan.count, 3)
    assert torch.equal(applied.view(-1, 3), exact.bfloat16()) or torch.allclose(
        applied.view(-1, 3).float(), exact, rtol=2**-7, atol=2**-7
    )


@quick
@given(a_plan)
def test_survivors_keep_their_order(plan):
    assert plan.keep.tolist() == sorted(set(plan.keep.tolist()))
    assert plan.owner[plan.keep].tolist() == list(range(plan.kept))


@quick
@given(counts.flatmap(heads))
def test_a_merge_is_the_mean_of_its_group(head):
    size = torch.randint(1, 5, head.shape, generator=torch.Generator().manual_seed(0)).float()
    plan, values = Plan.merge(head, size), values_of(len(head))
    for slot, survivor in enumerate(plan.keep.tolist()):
        group = head == survivor
        expected = (values[group] * size[group, None]).sum(0) / size[group].sum()
        torch.testing.assert_close(plan.apply(values)[slot], expected)


@quick
@given(counts.flatmap(heads))
def test_mass_is_conserved_by_merging(head):
    size = torch.arange(1.0, len(head) + 1)
    plan, values = Plan.merge(head, size), values_of(len(head))
    after = plan.sizes(size)
    assert after.sum() == size.sum()
    torch.testing.assert_close((plan.apply(values) * after[:, None]).sum(0), (values * size[:, None]).sum(0))


@quick
@given(a_plan)
def test_sizes_count_what_was_not_pruned(plan):
    assert plan.sizes(torch.ones(plan.count)).sum() == int((plan.owner != GONE).sum())


@st.composite
def cascades(draw):
    """Plans one after another, each over the survivors of the one before, weighted by what they carry."""
    count, found, size = draw(st.integers(1, 9)), [], None
    size = torch.ones(count)
    for _ in range(draw(st.integers(1, 4))):
        plan = draw(plans(len(size), size))
        found.append(plan)
        size = plan.sizes(size)
    return found


@quick
@given(cascades())
def test_provenance_composes(cascade):
    owner = cascade[0].owner
    groups = [{index} for index in range(cascade[0].count)]
    for number, plan in enumerate(cascade):
        owner = owner if number == 0 else compose(owner, plan.owner)
        merged = [set() for _ in range(plan.kept)]
        for token, slot in enumerate(plan.owner.tolist()):
            if slot != GONE:
                merged[slot] |= groups[token]
        groups = merged
    for slot, group in enumerate(groups):
        assert group == {token for token, standing in enumerate(owner.tolist()) if standing == slot}
    standing = {token for group in groups for token in group}
    assert {token for token, slot in enumerate(owner.tolist()) if slot == GONE} == set(range(len(owner))) - standing


@quick
@given(cascades())
def test_composing_is_associative(cascade):
    owners = [plan.owner for plan in cascade]
    left = owners[0]
    for owner in owners[1:]:
        left = compose(left, owner)
    right = owners[-1]
    for owner in reversed(owners[:-1]):
        right = compose(owner, right)
    assert torch.equal(left, right)


@quick
@given(cascades())
def test_sizes_through_a_cascade(cascade):
    size, owner = torch.ones(cascade[0].count), torch.arange(cascade[0].count)
    for plan in cascade:
        size, owner = plan.sizes(size), compose(owner, plan.owner)
    assert size.sum() == int((owner != GONE).sum())


@quick
@given(st.data(), st.integers(2, 9))
def test_weighted_merges_in_a_row_are_the_mean_of_all_originals(data, count):
    size, values, owner = torch.ones(count), values_of(count), torch.arange(count)
    originals = values
    for _ in range(3):
        plan = Plan.merge(data.draw(heads(len(size))), size)
        values, size, owner = plan.apply(values), plan.sizes(size), compose(owner, plan.owner)
    for slot in range(len(size)):
        torch.testing.assert_close(values[slot], originals[owner == slot].mean(0), atol=1e-5, rtol=1e-5)


@quick
@given(st.integers(0, 9))
def test_identity_and_full_selection_change_nothing(count):
    values = values_of(count)
    for plan in (Plan.identity(count), Plan.select(torch.arange(count).flip(0), count)):
        assert torch.equal(plan.apply(values), values) and plan.kept == count and not plan.merges


def test_one_token_may_go_to_several_survivors():
    plan = Plan(
        3,
        torch.tensor([0, 2]),
        torch.tensor([0, 0, 1]),
        torch.tensor([0, 1]),
        torch.tensor([1, 1]),
        torch.tensor([0.5, 0.25]),
        torch.tensor([0.5, 0.75]),
    )
    values = torch.tensor([[0.0], [4.0], [8.0]])
    assert plan.apply(values).flatten().tolist() == [2.0, 7.0]


def test_a_head_must_survive():
    with pytest.raises(OptionError, match="survivor"):
        Plan.merge(torch.tensor([1, 2, 2]), torch.ones(3))


def test_a_plan_refuses_another_number_of_tokens():
    with pytest.raises(OptionError, match="3 tokens, not on 4"):
        Plan.identity(3).apply(torch.ones(4, 1))
