"""What is measured runs where the model is, and tells what a prefill left behind."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from benchmarks import shapes
from benchmarks.parts import Tower
from benchmarks.trials import batch_trial_of, dtype_of, merge_trial_of, method_of, model_of, trial_of
from framefusion.core.method import before
from tests.benchmarks.tiny import BATCH, CPU, MERGE, PROMPT, tiny_shape  # noqa: F401
from tests.support.devices import FIRST, MixedDevices, PretendDevices

pytestmark = pytest.mark.usefixtures("tiny_shape")


@pytest.fixture(scope="module")
def net(tiny_shape):  # noqa: F811
    return model_of(PROMPT, CPU)


@pytest.fixture
def net_elsewhere(tiny_shape):  # noqa: F811
    made = model_of(PROMPT, CPU)
    with PretendDevices():
        for tensor in (*made.parameters(), *made.buffers()):
            tensor._place = FIRST
        yield made


def run_all(runs):
    return {name: run() for name, run in runs.items()}


def test_a_merge_needs_one_device():
    with PretendDevices():
        laps = run_all(merge_trial_of(MERGE, FIRST).runs())
    assert set(laps) == {"copy", "reduced", "reduced in place", "oracle", "published"}


@pytest.mark.parametrize("cell", [PROMPT, BATCH], ids=["prompt", "batch"])
def test_a_prompt_needs_the_device_of_its_model(net_elsewhere, cell):
    trial = (trial_of if cell is PROMPT else batch_trial_of)(cell, net_elsewhere, FIRST)
    assert all(lap["prefill" if cell is PROMPT else "prefill per row"] for lap in run_all(trial.runs()).values())


def test_a_prompt_elsewhere_is_noticed(net_elsewhere):
    with pytest.raises(MixedDevices):
        trial_of(PROMPT, net_elsewhere, CPU)


def test_tower_needs_the_device_of_its_model(net_elsewhere, tmp_path):
    cell = replace(PROMPT, kind="parts", frames=4)
    laps = Tower(cell, net_elsewhere, dtype_of(cell), FIRST, tmp_path).run()
    assert list(laps) == ["decode of the video", "preprocessing", "vision tower", "projector"]


def test_the_oracle_of_a_merge_makes_what_the_decision_makes():
    trial = merge_trial_of(MERGE, CPU)
    hidden = trial.prompt.embeds
    step = trial._decide(before(0), hidden)
    made = torch.zeros(step.gather.shape[1], hidden.shape[-1])
    made.index_add_(0, trial.sums.numbers(), hidden[0][trial.sums.source] * trial.sums.weight[:, None])
    torch.testing.assert_close(step.apply(hidden)[0], made)
    assert trial.facts["left"] == len(made) < trial.facts["tokens"]


def test_the_cell_decides_cost_and_depth(monkeypatch):
    assert method_of(replace(MERGE, cost=0.5)).cost == 0.5
    monkeypatch.setitem(shapes.TEXTS, "deep", replace(shapes.TEXTS["tiny"], depth=9))
    assert merge_trial_of(replace(MERGE, shape="deep"), CPU).depth == 9


def test_batches_say_what_their_prefill_left_behind(net):
    trial = batch_trial_of(BATCH, net, CPU)
    run_all(trial.runs())
    dense, reduced = (trial.facts[name] for name in ("dense, batch", "reduced, batch"))
    assert dense["tokens_per_layer"] == [trial.length] * BATCH.layers
    assert reduced["tokens_per_layer"][-1] < trial.length and reduced["kv_bytes"] < dense["kv_bytes"]
    assert reduced["steps"] and reduced["lengths"] == dense["lengths"]
