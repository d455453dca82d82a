"""The mixin on a stand-in for lmms-eval's model classes, with a real tiny model behind it."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from framefusion import Random
from framefusion.core.errors import OptionError
from framefusion.integrations.lmms.reduced import Reduced
from tests.support.tiny import build_model, moving_clip, prompt

FAMILY = "qwen2_5_vl"
NEW = 3


class Digits:
    """A tokenizer whose text is the list of tokens."""

    def decode(self, tokens: Any, **kwargs: Any) -> str:
        return str(tokens.tolist())


class Stand:
    """Like a class of lmms-eval: a model, `self.model.generate` for every request, errors perhaps swallowed."""

    def __init__(self, pretrained: str, swallow: bool = False, **kwargs: Any) -> None:
        self._model, self.swallow = build_model(pretrained), swallow

    @property
    def model(self) -> Any:
        return self._model

    def generate_until(self, requests: list[dict[str, Any]]) -> list[Any]:
        return [self._answer(inputs) for inputs in requests]

    def _answer(self, inputs: dict[str, Any]) -> Any:
        try:
            new = self.model.generate(**inputs, max_new_tokens=NEW, do_sample=False)[:, inputs["input_ids"].shape[1] :]
        except Exception:
            if not self.swallow:
                raise
            return ""
        return new.tolist()


class Model(Reduced, Stand):
    pass


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """Calls of lmms-eval's `log_metrics`."""
    calls: list[tuple[Any, ...]] = []
    module = ModuleType("lmms_eval.models.model_utils.gen_metrics")
    module.log_metrics = lambda *call: calls.append(call)
    module.get_logged_metrics_history = lambda: list(calls)
    names = module.__name__.split(".")
    for end in range(1, len(names)):
        monkeypatch.setitem(sys.modules, ".".join(names[:end]), ModuleType(".".join(names[:end])))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return calls


@pytest.fixture(scope="module")
def requests() -> list[dict[str, torch.Tensor]]:
    clips = [moving_clip(frames=8, seed=seed) for seed in range(2)]
    return [prompt(FAMILY, [[("video", clip), ("text", "what?")]]) for clip in clips]


def test_a_reduced_run_answers_as_a_reduced_model_and_logs_what_it_kept(logged, requests):
    from framefusion import FastV, reduce

    model = Model(pretrained=FAMILY, method="fastv", keep=0.5, layer=1)
    answers = model.generate_until(requests)
    plain = build_model(FAMILY)
    with reduce(plain, FastV(keep=0.5, layer=1)):
        for inputs, answer in zip(requests, answers, strict=True):
            expected = plain.generate(**inputs, max_new_tokens=NEW, do_sample=False)
            assert answer == expected[:, inputs["input_ids"].shape[1] :].tolist()
    (seconds, tokens, speed, numbers) = logged[-1]
    assert tokens == NEW * len(requests) and seconds > 0 and speed > 0
    assert numbers["framefusion_kept_fraction"] == pytest.approx(0.5)
    assert numbers["framefusion_cost"] == pytest.approx(0.625)
    assert numbers["framefusion_visual_tokens"] == 64
    assert numbers["framefusion_prompts"] == 2 and numbers["framefusion_failed"] == 0
    assert 0 < numbers["framefusion_prefill_ms"] < seconds * 1e3


def test_a_dense_run_is_the_model_untouched_and_measured_alike(logged, requests):
    model = Model(pretrained=FAMILY, method="dense")
    assert model.reduction is None and not model._model._forward_pre_hooks
    answers = model.generate_until(requests)
    assert answers == Stand(FAMILY).generate_until(requests)
    numbers = logged[-1][3]
    assert numbers["framefusion_kept_fraction"] == numbers["framefusion_cost"] == 1.0
    assert numbers["framefusion_visual_tokens"] == 64 and numbers["framefusion_prefill_ms"] > 0


NARROW = "weights:sim4+activations:sim8+kv:sim4+group:16"


@pytest.mark.parametrize("words", [NARROW, "kv:sim2", "attention:sage-emulated"])
@pytest.mark.parametrize("method", ["dense", "random"])
def test_a_quantised_run_answers_as_framefusion_run_does(words, method, logged, requests):
    from framefusion.cli.opening import narrowed
    from framefusion.inference.answer.answer import ask
    from framefusion.inference.answer.checkpoint import Checkpoint
    from framefusion.integrations.lmms.options import precision_of

    options = {} if method == "dense" else {"keep": 0.5}
    model = Model(pretrained=FAMILY, method=method, quantize=words, **options)
    answers = model.generate_until(requests)
    plain = Checkpoint("tiny", build_model(FAMILY), SimpleNamespace(tokenizer=Digits()))
    same = narrowed(plain, precision_of(words))
    expected = [ask(same, inputs, None if method == "dense" else Random(keep=0.5), NEW) for inputs in requests]
    assert [str(answer[0]) for answer in answers] == [answer.text for answer in expected]
    numbers = logged[-1][3]
    assert numbers["framefusion_kv_bytes"] == pytest.approx(sum(answer.kv_bytes for answer in expected) / 2)
    assert model.setup["dtype"] == "float32" and model.setup["fast"] is False


def test_memory_is_logged_with_and_without_bits(logged, requests):
    for words in ("none", NARROW):
        Model(pretrained=FAMILY, method="dense", quantize=words).generate_until(requests)
    (whole, narrow) = (call[3] for call in logged)
    assert whole["framefusion_weight_bytes"] == 2 * sum(part.numel() for part in build_model(FAMILY).parameters())
    assert narrow["framefusion_weight_bytes"] < whole["framefusion_weight_bytes"]
    # float32 here; four bits, and for each group of 16 values a scale and a least value, are 6 of its 32.
    assert narrow["framefusion_kv_bytes"] == pytest.approx(whole["framefusion_kv_bytes"] * 6 / 32)
    assert whole["framefusion_prompt_tokens"] == requests[0]["input_ids"].shape[1]


def test_the_caller_of_generate_gets_what_it_asked_for(logged, requests):
    model = Model(pretrained=FAMILY, method="dense").model
    tokens = model.generate(**requests[0], max_new_tokens=NEW, do_sample=False)
    whole = model.generate(**requests[0], max_new_tokens=NEW, do_sample=False, return_dict_in_generate=True)
    assert torch.is_tensor(tokens) and torch.equal(tokens, whole.sequences)


def test_totals_that_the_wrapped_class_logged_are_not_logged_twice(logged, requests):
    class Talkative(Stand):
        def generate_until(self, requests):
            found = super().generate_until(requests)
            logged.append((1.0, 7, 7.0, {"rank": 0}))
            return found

    type("Both", (Reduced, Talkative), {})(pretrained=FAMILY, cost=0.3).generate_until(requests)
    assert logged[-1][:2] == (0.0, 0)


def test_a_prompt_without_pictures_does_not_dilute_the_means(logged, requests):
    text = prompt(FAMILY, [[("text", "no picture at all")]])
    model = Model(pretrained=FAMILY, method="fastv", keep=0.5, layer=1)
    model.generate_until([requests[0], text])
    numbers = logged[-1][3]
    assert numbers["framefusion_kept_fraction"] == pytest.approx(0.5)
    assert numbers["framefusion_prompts"] == 2


def test_the_numbers_of_one_task_do_not_run_into_the_next(logged, requests):
    model = Model(pretrained=FAMILY, cost=0.5)
    for _ in range(2):
        model.generate_until(requests)
    assert [call[3]["framefusion_prompts"] for call in logged] == [2, 2]


def test_swallowed_errors_are_counted_and_a_run_of_nothing_else_fails(logged, requests):
    model = Model(pretrained=FAMILY, swallow=True, cost=0.3)
    broken = {"input_ids": torch.full((1, 4), 10**6)}
    model.generate_until([requests[0], broken])
    assert logged[-1][3]["framefusion_failed"] == 1
    with pytest.raises(IndexError):
        model.generate_until([broken])


def test_the_model_passes_through(logged):
    model = Model(pretrained=FAMILY, cost=0.3)
    assert model.model.config is model._model.config and model.model.dtype == torch.float32


def test_a_wrong_option_is_refused_though_the_class_takes_anything():
    with pytest.raises(OptionError, match="simlarity"):
        Model(pretrained=FAMILY, simlarity=0.3)
