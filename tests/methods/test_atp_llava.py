"""ATP-LLaVA against its plain transcription, and its loss on the paper's own numbers."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from framefusion.core.layout import Geometry
from framefusion.core.learned import Planned
from framefusion.core.method import Setting, before
from framefusion.core.model_shape import ModelShape
from framefusion.core.plan import Plan
from framefusion.methods.atp_llava import ATPLLaVA, budget_loss
from framefusion.testing.rows import geometries
from framefusion.testing.signals import make_signals
from tests.reference import atp_llava as plain

SHAPE = ModelShape("any", 32, 8)
GRID: Geometry = next(geometry for geometry in geometries().values() if int(geometry.clip.max()) == 0)
CASES = [ATPLLaVA(), ATPLLaVA(raw=True, temperature=100.0), ATPLLaVA(keep=0.5, grid=0.25)]


def trained(method: ATPLLaVA, seed: int = 0) -> ATPLLaVA:
    """With thresholds anywhere."""
    found = method.untrained(SHAPE, seed)
    draw = torch.Generator().manual_seed(seed)
    assert found.weights is not None
    for weight in found.weights.module.parameters():
        weight.data = 0.5 * torch.randn(weight.shape, generator=draw)
    return found


def seen(layer: int, seed: int, gate: torch.Tensor | None = None):
    count = len(GRID)
    draw = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, count, generator=draw) * torch.tensor([[2.0], [0.5]]) + 1.0
    signals = make_signals(GRID, torch.zeros(count, 8), before(layer))
    return replace(signals, mean_logits=lambda: logits, gate=gate), logits.tolist()


@pytest.mark.parametrize("method", CASES, ids=repr)
@pytest.mark.parametrize("number", range(3))
@pytest.mark.parametrize("gated", [False, True])
def test_the_same_mask_and_the_same_tokens_as_the_plain_one(method, number, gated):
    method = trained(method, number)
    assert method.weights is not None
    stage = method.stages()[number]
    layer, share = ((4, 0.5), (14, 0.25), (24, 0.0625))[number]
    gate = torch.rand(len(GRID), generator=torch.Generator().manual_seed(7)) if gated else None
    signals, (own, cross) = seen(layer, number, gate)
    weights = None if gate is None else gate.tolist()
    redundant = plain.redundant_scores(own, cross, method.raw, weights)
    spatial = plain.spatial_scores(GRID.row.tolist(), GRID.column.tolist(), method.grid or share)
    state = {name: value.tolist() for name, value in method.weights.module.state_dict().items()}
    theta = plain.thresholds(state, number, own, cross, weights)
    patches = (GRID.kind == 0).nonzero().flatten().tolist()
    assert len(patches) == len(GRID)
    start = stage.start(Setting(32, GRID))
    method.weights.module.eval()
    plan, _ = stage.step(start, signals)
    assert plan.keep.tolist() == plain.kept(redundant, spatial, theta)
    method.weights.module.train()
    plan, _ = stage.step(start, signals)
    assert plan.kept == len(GRID) and plan.learned is not None
    wanted = torch.tensor(plain.soft_mask(redundant, spatial, theta, method.temperature)).clamp(min=1e-6)
    assert torch.allclose(plan.learned.gate, wanted, atol=1e-5)


def test_the_loss_on_the_numbers_of_the_paper():
    """576 tokens, modules behind layers 4, 14, 24, which leave 288, 144 and 72; the target is 144."""
    gates = [
        (layer, torch.cat([torch.ones(left), torch.zeros(576 - left)]))
        for layer, left in zip((4, 14, 24), (288, 144, 72), strict=True)
    ]
    # 0.05 * (0.5 * 4 + 0.25 * 14 + 0.125 * 24) + 0.2 * |168 - 144|
    assert budget_loss(gates, 576, 0.25).item() == pytest.approx(0.05 * 8.5 + 0.2 * 24)
    assert budget_loss(gates, 576, 0.25).item() == pytest.approx(plain.loss((288, 144, 72), (4, 14, 24), 576, 144))


def test_a_token_that_is_gone_stays_gone_in_the_loss():
    """What a later module lets through does not bring back what an earlier one took, row by row."""
    plans = [
        Planned(layer, row, Plan.identity(4).with_learned(gate=torch.tensor(gate)))
        for layer, row, gate in (
            (4, 0, [1.0, 0.5, 0.0, 0.0]),
            (4, 1, [1.0] * 4),
            (14, 0, [1.0] * 4),
            (14, 1, [0.0] * 4),
        )
    ]
    wanted = (plain.loss((1.5, 1.5), (4, 14), 4, 1) + plain.loss((4, 0), (4, 14), 4, 1)) / 2
    assert ATPLLaVA().loss(plans, [4, 4]).item() == pytest.approx(wanted)


def test_another_budget_moves_the_thresholds_and_one_keeps_all():
    method = trained(ATPLLaVA(), 1)
    assert method.weights is not None
    method.weights.module.eval()
    counts = []
    for keep in (0.05, 0.25, 0.6, 0.95, 1.0):
        stage = method.with_budget(keep).stages()[1]
        signals, _ = seen(14, 3)
        counts.append(stage.step(stage.start(Setting(32, GRID)), signals)[0].kept)
    assert counts == sorted(counts) and counts[0] < counts[-1] == len(GRID)


def test_gradients_reach_every_threshold():
    method = trained(ATPLLaVA(), 2)
    assert method.weights is not None
    gates = [stage.step(None, seen(4, 1)[0])[0].learned.gate for stage in method.stages()]
    budget_loss(list(zip((4, 14, 24), gates, strict=True)), len(GRID), 0.25).backward()
    assert all(weight.grad is not None for weight in method.weights.module.parameters())
