"""LLaVA-Scissor against its reference."""

from __future__ import annotations

import pytest
import torch

from framefusion.core.errors import OptionError
from framefusion.core.layout import Geometry
from framefusion.core.ops import clustering as ops
from framefusion.methods.scissor import Scissor
from tests.reference.scissor import parts, scissor
from tests.support import driving
from tests.support.driving import FAMILIES, LAYOUTS, content, plan_of, row


def compare(geometry, hidden, tau):
    plan = plan_of(Scissor(tau), row(geometry, hidden))
    keep, values = scissor(hidden, geometry.frame.tolist(), tau)
    assert plan.keep.tolist() == keep
    torch.testing.assert_close(plan.apply(hidden.float()), values.float())
    assert torch.equal(plan.owner[plan.keep], torch.arange(plan.kept))
    assert float(plan.sizes(torch.ones(len(hidden))).sum()) == len(hidden)
    return plan


@pytest.mark.parametrize("layout", list(LAYOUTS))
@pytest.mark.parametrize("tau", [0.9, 0.6, 0.3, 0.0, -1.0])
def test_selection_and_values_are_the_reference(layout, tau):
    geometry = LAYOUTS[layout]
    for seed in range(3):
        compare(geometry, content("random", geometry, seed), tau)


@pytest.mark.parametrize("seed", range(3))
def test_tokens_that_drift_along_time_form_chains(seed):
    geometry = Geometry.grid(6, 3, 3)
    draw = torch.Generator().manual_seed(seed)
    places = torch.randn(9, driving.WIDTH, generator=draw)
    drift = 0.3 * torch.randn(6, 9, driving.WIDTH, generator=draw).cumsum(0)
    hidden = (places[None] + drift).flatten(0, 1)
    plan = compare(geometry, hidden, 0.8)
    assert plan.merges and plan.kept < len(hidden)


@pytest.mark.parametrize("kind", ["still", "pairs", "equal", "zeros", "some zeros"])
@pytest.mark.parametrize("layout", list(LAYOUTS))
def test_duplicates_and_zeros(layout, kind):
    compare(LAYOUTS[layout], content(kind, LAYOUTS[layout]), 0.7)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_compared_in_float32(dtype):
    geometry = LAYOUTS["odd"]
    compare(geometry, content("random", geometry).to(dtype), 0.5)


@pytest.mark.parametrize("rows", [3, 1024])
def test_components_of_long_chains(rows, monkeypatch):
    monkeypatch.setattr(ops, "ROWS", rows)
    order = torch.randperm(200, generator=torch.Generator().manual_seed(0))
    pairs = torch.zeros(200, 200, dtype=torch.bool)
    for a, b in zip(order[:149].tolist(), order[1:150].tolist(), strict=True):
        pairs[a, b] = pairs[b, a] = True
    label = ops.components(pairs)
    chain = order[:150]
    assert bool((label[chain] == chain.min()).all())
    assert torch.equal(label[order[150:]], order[150:])


def test_random_graphs_have_the_components_a_search_finds():
    for seed in range(5):
        values = torch.randn(40, 6, generator=torch.Generator().manual_seed(seed))
        label = ops.components(ops.similar_pairs(torch.nn.functional.normalize(values, dim=-1), 0.6))
        for _, members in parts(list(values.double()), 0.6):
            assert set(label[members].tolist()) == {min(members)}


def test_contract():
    driving.assert_identity(Scissor(1.0))
    driving.assert_clips_apart(Scissor(0.4))
    driving.assert_newlines_follow(Scissor(0.2))
    driving.assert_inputs_unchanged(Scissor(0.4))
    assert Scissor.facts.budget == "tau"


@pytest.mark.parametrize("tau", [1.1, -1.5, float("nan")])
def test_bad_options_raise(tau):
    with pytest.raises(OptionError):
        Scissor(tau)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_batch_in_a_model(family):
    report = driving.in_a_model(Scissor(0.3), family).report
    kept = sum(report.last.kept_tokens)
    assert kept < report.visual_tokens
    assert [layer.visual_in for layer in report.layers] == [kept] * driving.TINY_LAYERS
