"""The control Random: the declared number, the same lot for the same seed, another one for another."""

from __future__ import annotations

import pytest
import torch

import framefusion as ff
from framefusion.core.errors import OptionError
from framefusion.core.layout import Geometry
from framefusion.core.method import before
from framefusion.methods.random import Random
from framefusion.testing.signals import make_signals, run_stage
from tests.reference.random import kept
from tests.support.tiny import build_model, moving_clip, prompt


@pytest.mark.parametrize("seed", [0, 7])
@pytest.mark.parametrize("keep", [0.01, 0.3, 0.77])
@pytest.mark.parametrize("patches", [1, 9, 35])
def test_equals_the_plain_form_clip_by_clip(patches: int, keep: float, seed: int) -> None:
    geometry = Geometry.cat([Geometry.grid(1, 1, patches).as_clip(clip) for clip in range(2)])
    signals = make_signals(geometry, torch.zeros(len(geometry), 4), before(0))
    plan = run_stage(Random(keep=keep, seed=seed), signals)
    assert plan is not None and not plan.merges
    lot = kept(patches, keep, seed)
    assert plan.keep.tolist() == lot + [patches + place for place in lot]


def test_another_seed_draws_another_lot() -> None:
    geometry = Geometry.grid(1, 6, 6)
    signals = make_signals(geometry, torch.zeros(36, 4), before(0))
    plans = [run_stage(Random(keep=0.5, seed=seed), signals) for seed in (0, 1)]
    assert all(plan is not None for plan in plans)
    assert plans[0].keep.tolist() != plans[1].keep.tolist()


@pytest.mark.parametrize("layer", [0, 2])
def test_it_acts_before_its_layer(layer: int) -> None:
    model, inputs = build_model("qwen3_vl"), prompt("qwen3_vl", [[("video", moving_clip()), ("text", "what?")]])
    with torch.no_grad(), ff.reduce(model, Random(keep=0.25, layer=layer)) as reduction:
        model.generate(**inputs, max_new_tokens=2, do_sample=False)
    assert [row.visual_in for row in reduction.report.layers] == [32] * layer + [8] * (4 - layer)


@pytest.mark.parametrize("keep", [0.0, -1, 1.2, True])
def test_bad_budgets_raise(keep: float) -> None:
    with pytest.raises(OptionError):
        Random(keep=keep)
