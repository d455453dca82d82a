"""The embedded model answers, and a reduction that is wrong is found out by its answers."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

import pytest
import torch

import framefusion as ff
from framefusion.core.method import Signals
from framefusion.core.plan import Plan
from framefusion.evaluation import Asking, Records, evaluate
from framefusion.inference.answer.checkpoint import Checkpoint, configuration_of, family_at, load_checkpoint
from framefusion.inference.batch.answerer import Answerer
from framefusion.inference.batch.job import Job
from framefusion.inference.tiny import CHECKPOINT, NAME
from framefusion.methods.framefusion import Cascade

QUESTIONS, SEED = 36, 5
COST = 0.3


class Astray(Cascade):
    """The cascade with a wrong merge: what survives takes the value of a token far from it."""

    def step(self, state: Any, signals: Signals) -> tuple[Plan | None, Any]:
        plan, state = super().step(state, signals)
        if plan is None or plan.kept == plan.count:
            return plan, state
        slots, elsewhere = torch.arange(plan.kept), plan.keep.roll(plan.kept // 2)
        ones = torch.ones(plan.kept)
        return replace(plan, target=slots, source=elsewhere, weight=ones, own=0 * ones), state


class Wrong(ff.FrameFusion):
    def stages(self) -> tuple[Cascade, ...]:
        return (Astray(self),)


@pytest.fixture(scope="module")
def tiny() -> Checkpoint:
    return load_checkpoint(NAME, device="cpu")


def accuracies(tiny: Checkpoint, method: ff.FrameFusion) -> tuple[float, float]:
    """Dense and reduced."""
    asking = Asking(batch=8, new_tokens=4, share_tower=True)
    found = evaluate(
        tiny, method, None, controls=[], samples=QUESTIONS, seed=SEED, asking=asking, records=Records(None)
    )
    return found.dense.accuracy.value, found.reduced.score.accuracy.value


def survives(dense: float, reduced: float) -> bool:
    return reduced >= 0.9 * dense


def test_the_model_answers_and_reduction_leaves_its_answers_alone(tiny: Checkpoint) -> None:
    dense, reduced = accuracies(tiny, ff.FrameFusion(cost=COST))
    assert dense >= 0.9
    assert survives(dense, reduced)


@pytest.mark.parametrize(("name", "asking"), [(NAME, None), (str(CHECKPOINT), None), (NAME, Asking(batch=8))])
def test_it_is_asked_as_it_was_trained(name: str, asking: Asking | None) -> None:
    """By default, under its name and its path; whoever asks in another way may still do so."""
    checkpoint = load_checkpoint(name, device="cpu")
    assert checkpoint.name == name
    about = {"controls": [], "samples": 12, "seed": SEED, "kinds": ["colour", "shape", "direction"]}
    found = evaluate(checkpoint, ff.Uniform(), None, asking=asking, records=Records(None), **about)
    assert found.dense.accuracy.value >= 0.8 and found.setup["choices_named"] is False


def test_a_model_of_another_name_is_shown_the_choices(tiny: Checkpoint) -> None:
    asking, other = Asking(), replace(tiny, name="some/model")
    assert asking.names_choices(other) and not asking.names_choices(tiny)
    assert replace(asking, name_choices=True).names_choices(tiny)
    assert not replace(asking, name_choices=False).names_choices(other)


def test_its_name_is_known_wherever_a_checkpoint_is_named(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / NAME).mkdir(parents=True)
    monkeypatch.chdir(tmp_path)  # a folder of that name, as in a checkout, is not what is meant
    assert family_at(NAME).name == configuration_of(NAME).model_type == "qwen2_5_vl"
    assert Answerer(Job(NAME, device="cpu")).checkpoint.name == NAME


def test_a_wrong_merge_is_found_out(tiny: Checkpoint) -> None:
    assert not survives(*accuracies(tiny, Wrong(cost=COST)))


def test_the_card_is_of_these_weights() -> None:
    card = CHECKPOINT.with_name("README.md").read_text(encoding="utf-8")
    digest = hashlib.sha256((CHECKPOINT / "model.safetensors").read_bytes()).hexdigest()
    assert digest[:16] in card


def test_it_carries_its_threshold(tiny: Checkpoint) -> None:
    with ff.reduce(tiny.model, ff.FrameFusion()) as reduction:
        assert reduction.method.similarity_lower_bound == tiny.model.config.framefusion["similarity_lower_bound"]
    with ff.reduce(tiny.model, ff.FrameFusion(similarity_lower_bound=0.5)) as reduction:
        assert reduction.method.similarity_lower_bound == 0.5
