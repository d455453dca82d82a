"""What a learned reducer adds to a plan: a gate in the attention of later layers, states that it writes, gradients."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import nn

import framefusion as ff
from framefusion.core.learned import LearnedMethod, LearnedStage
from framefusion.core.method import before
from framefusion.core.plan import Plan
from framefusion.core.registry import family_of_config
from framefusion.core.stage import DecoderStage
from framefusion.engine import context
from framefusion.engine.model.parts import find_parts
from framefusion.engine.model.shape import shape_of
from tests.reference import atp_llava as plain
from tests.support.cases import assert_near, both_attentions, every_family, inputs_of, model_of, reduced

FACTS = ff.MethodFacts("gating", "Gating", "", "lets tokens count less", "before a layer", budget="", identity={})


class Share(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.slope = nn.Parameter(torch.tensor(0.7))


@dataclass(frozen=True)
class Gating(LearnedMethod):
    """Later tokens count more; what a survivor becomes, and the text, may be rewritten."""

    layer: int = 1
    keep: int = 0
    facts = FACTS

    def build(self, shape):
        return Share()

    def learned_stages(self, weights):
        return (LearnedStage(before(self.layer), lambda signals: self.decide(weights.module, signals), by_clip=False),)

    def decide(self, module, signals):
        place = torch.arange(1, len(signals) + 1) / len(signals)
        plan = Plan.select(torch.arange(self.keep), len(signals)) if self.keep else Plan.identity(len(signals))
        if not self.keep:
            return plan.with_learned(gate=(module.slope * place).clamp(1e-6, 1.0))
        return plan.with_learned(
            values=signals.hidden()[: self.keep] * module.slope, text=signals.text() + module.slope
        )


@dataclass(frozen=True)
class Looking(ff.Method):
    """Keeps what it is shown."""

    layer: int = 1
    found: Any = field(default_factory=dict, compare=False)
    facts = FACTS

    def stages(self):
        return (DecoderStage(before(self.layer), self.decide, frozenset({"hidden", "text"}), by_clip=False),)

    def decide(self, signals):
        self.found.update(hidden=signals.hidden(), text=signals.text())
        return Plan.identity(len(signals))


def gating(model, **options):
    method, parts = Gating(**options), find_parts(model)
    return method.untrained(shape_of(parts, family_of_config(parts.config)))


@both_attentions
def test_a_gate_is_its_logarithm_in_the_logits_of_every_later_layer(attn):
    model, inputs = model_of("llava", attn), inputs_of("llava", "images")
    method = gating(model, layer=0)
    found, report = reduced(model, method, inputs)
    gate = report.decisions[0].plan.learned.gate
    length = inputs["input_ids"].shape[1]
    logits = torch.zeros(length)
    logits[report.decisions[0].columns] = gate.detach().log()
    causal = torch.full((length, length), torch.finfo(torch.float32).min).triu(1)
    mask = (causal + logits[None]).clamp(min=torch.finfo(torch.float32).min)[None, None]
    with torch.no_grad():
        wanted = model(**{**inputs, "attention_mask": mask})
    assert_near(found.logits, wanted.logits, 1e-5)
    assert (found.logits - model(**inputs).logits).abs().max() > 1e-3


@both_attentions
def test_the_gradient_of_a_gate_is_that_of_finite_differences(attn):
    model, inputs = model_of("qwen2_vl", attn), inputs_of("qwen2_vl", "full", "short")
    method = gating(model)
    slope = method.weights.module.slope

    def value() -> torch.Tensor:
        with ff.reduce(model, method):
            return model(**inputs).logits[:, -1].double().square().mean()

    value().backward()
    with torch.no_grad():
        sides = []
        for step in (1e-2, -1e-2):
            slope += step
            sides.append(float(value()))
            slope -= step
    assert slope.grad is not None and float(slope.grad) == pytest.approx((sides[0] - sides[1]) / 2e-2, rel=2e-2)


@every_family
def test_generation_goes_on_with_the_gate_and_ends_without_a_trace(family):
    model, inputs = model_of(family), inputs_of(family, "images", "text")
    options = {"max_new_tokens": 3, "do_sample": False}
    before_it = model.generate(**inputs, **options)
    with ff.reduce(model, gating(model)) as reduction:
        model.generate(**inputs, **options)
    assert reduction.report.decisions[0].plan.learned is not None
    assert torch.equal(model.generate(**inputs, **options), before_it)


@both_attentions
@torch.no_grad()
def test_gates_of_a_padded_batch_are_those_of_its_rows(attn):
    model = model_of("qwen2_vl", attn)
    together, _ = reduced(model, gating(model), inputs_of("qwen2_vl", "full", "short"))
    for number, row in enumerate(("full", "short")):
        alone, _ = reduced(model, gating(model), inputs_of("qwen2_vl", row))
        assert_near(together.logits[number, -1], alone.logits[0, -1])


def test_states_that_are_written_are_what_the_next_stage_sees():
    model, inputs = model_of("qwen2_vl"), inputs_of("qwen2_vl", "full")
    first, then = Looking(), Looking()
    reduced(model, ff.Chain(first, gating(model, keep=5), then), inputs)
    assert torch.allclose(then.found["hidden"], 0.7 * first.found["hidden"][:5])
    assert torch.allclose(then.found["text"], first.found["text"] + 0.7)


def test_gradients_flow_through_written_states():
    model, inputs = model_of("qwen2_vl"), inputs_of("qwen2_vl", "full", "text")
    method = gating(model, keep=5)
    with ff.reduce(model, method):
        model(**inputs).logits[0, -1].sum().backward()
    assert method.weights.module.slope.grad.abs() > 0


@dataclass(frozen=True)
class Weighing(ff.Method):
    """Keeps the logits it is shown."""

    found: Any = field(default_factory=dict, compare=False)
    facts = FACTS

    def stages(self):
        return (DecoderStage(before(2), self.decide, frozenset({"mean_logits"}), by_clip=False),)

    def decide(self, signals):
        self.found.update(logits=signals.mean_logits(), gate=signals.gate)
        return Plan.identity(len(signals))


def test_mean_logits_are_those_of_the_attention_call():
    """Behind a gate, in the padded row of a batch, with fewer heads of keys than of queries."""
    model, inputs, calls = model_of("qwen2_vl"), inputs_of("qwen2_vl", "short", "full"), {}
    looking, gated = Weighing(), gating(model)

    def watch(layer, call):
        calls[layer] = call

    with torch.no_grad(), context.watched_by(watch), ff.reduce(model, ff.Chain(gated, looking)) as reduction:
        model(**inputs)
    columns = reduction.report.decisions[-1].columns
    assert reduction.report.decisions[-1].row == 1
    call, last = calls[1], int(columns[-1])
    query, key = call.query[1], call.key[1].repeat_interleave(call.query.shape[1] // call.key.shape[1], 0)
    own, cross = plain.mean_logits(
        query[:, columns].tolist(),
        key[:, columns].tolist(),
        query[:, last + 1 :].tolist(),
        call.scale,
        looking.found["gate"].tolist(),
    )
    assert torch.allclose(looking.found["logits"], torch.tensor([own, cross]), atol=1e-5)
