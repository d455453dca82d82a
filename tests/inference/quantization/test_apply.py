"""A quantised model computes with rounded weights, spares what it should, and comes back bit for bit."""

from __future__ import annotations

import sys
from importlib.util import find_spec

import pytest
import torch
from torch import nn

from framefusion.core.errors import MissingPackageError, OptionError
from framefusion.inference.quantization import Precision, quantize
from framefusion.inference.quantization.rounding import round_trip
from framefusion.inference.quantization.select import linear_layers
from framefusion.inference.reduction import reduce_clips
from tests.behaviour.support import answer, families, few_families, inputs, method, model
from tests.reference import quantization as reference
from tests.support.tiny import build_model

needs_torchao = pytest.mark.skipif(find_spec("torchao") is None, reason="needs torchao")
needs_peft = pytest.mark.skipif(find_spec("peft") is None, reason="needs peft")
SIMULATED = "weights=sim4,activations=sim8,group=16"
STAND_INS = [
    pytest.param(f"weights={bits},library={name}{',group=16' if name == 'hqq' else ''}", marks=mark)
    for name in ("hqq", "bitsandbytes")
    for mark in [pytest.mark.skipif(find_spec(name) is None, reason=f"needs {name}")]
    for bits in ("int8", "int4")
]
REAL = (
    "weights=int8",
    "weights=int8,activations=int8",
    "weights=int4,group=16",
    "weights=int4,activations=int8,group=16",
)


def marks(net):
    """Everything an undo must restore: which objects are where, and the bits in them."""
    places = {name: (id(part), sorted(part.__dict__)) for name, part in net.named_modules()}
    weights = {name: (id(part), part.clone()) for name, part in net.named_parameters()}
    hooks = {name: len(part._forward_pre_hooks) + len(part._forward_hooks) for name, part in net.named_modules()}
    return places, weights, hooks, net.config.get_text_config()._attn_implementation


def assert_same(before, after):
    assert before[0] == after[0] and before[2:] == after[2:]
    assert before[1].keys() == after[1].keys()
    assert all(
        one[0] == after[1][name][0] and torch.equal(one[1], after[1][name][1]) for name, one in before[1].items()
    )


@torch.no_grad()
def logits(net, prompt):
    return net(**prompt).logits[:, -1]


@few_families
def test_weights_are_those_of_the_reference(name):
    net = build_model(name)
    plain = {path: layer.weight.clone() for path, layer in linear_layers(net, tower=False).items()}
    with quantize(net, Precision.parse("weights=sim3,group=12")):
        for path, weight in list(plain.items())[:2]:
            expected = [reference.rounded_row(row, 3, 12) for row in weight.tolist()]
            torch.testing.assert_close(net.get_submodule(path).weight, torch.tensor(expected), atol=1e-5, rtol=1e-5)
        for path, weight in plain.items():
            assert torch.equal(net.get_submodule(path).weight, round_trip(weight, 3, 12))


@families("qwen2_5_vl", "llava_onevision", "gemma3")
@pytest.mark.parametrize(
    "text",
    [SIMULATED, "attention=sage-emulated", *(pytest.param(one, marks=needs_torchao) for one in REAL), *STAND_INS],
)
def test_undo_restores_the_model(name, text):
    net, prompt = build_model(name), inputs(name)
    said = logits(net, prompt)  # the first run leaves transformers' own marks
    before = marks(net)
    with quantize(net, Precision.parse(text)):
        assert not torch.equal(logits(net, prompt), said)
        with reduce_clips(net, method(name)) as reduction:
            logits(net, prompt)
            assert reduction.report.kept_fraction < 1
    assert_same(before, marks(net))
    assert torch.equal(logits(net, prompt), said)


@families("qwen2_5_vl", "llava_onevision")
def test_tower_and_projector_are_an_option(name):
    net = build_model(name)
    for tower in (False, True):
        with quantize(net, Precision.parse(f"weights=sim2,tower={str(tower).lower()}")) as quantised:
            changed = {
                path
                for path, part in model(name).named_parameters()
                if not torch.equal(part, dict(net.named_parameters())[path])
            }
            assert any("visual" in path or "vision" in path for path in changed) == tower
            assert any("language_model.layers" in path for path in changed)
            assert not any("lm_head" in path or "embed_tokens" in path for path in changed)
            assert 0 < quantised.weight_bytes() < 2 * sum(part.numel() for part in net.parameters())


def test_activations_are_rounded_token_by_token():
    net = build_model("qwen2_5_vl")
    layer = next(iter(linear_layers(net, tower=False).values()))
    tokens = torch.randn(2, 3, layer.in_features)
    rounded = [[reference.rounded_row(row, 4, layer.in_features) for row in part] for part in tokens.tolist()]
    with quantize(net, Precision.parse("activations=sim4")), torch.no_grad():
        torch.testing.assert_close(layer(tokens), nn.functional.linear(torch.tensor(rounded), layer.weight, layer.bias))


def test_a_tied_head_and_its_embedding_stay_one():
    net = build_model("qwen2_5_vl")
    net.lm_head.weight = net.model.language_model.embed_tokens.weight
    before = net.lm_head.weight.clone()
    with quantize(net, Precision.parse("weights=sim2,tower=true")):
        assert net.lm_head.weight is net.model.language_model.embed_tokens.weight
        assert torch.equal(net.lm_head.weight, before)


def test_layers_that_share_a_weight_go_on_sharing_it():
    net = build_model("qwen2_5_vl")
    first, second = (layer.mlp.up_proj for layer in net.model.language_model.layers[:2])
    second.weight = first.weight
    with quantize(net, Precision.parse("weights=sim4")) as quantised:
        assert first.weight is second.weight and first.weight is not quantised._weights[0][1]
    assert first.weight is second.weight


@needs_peft
@pytest.mark.parametrize("text", [SIMULATED, pytest.param("weights=int8", marks=needs_torchao), *STAND_INS])
def test_adapters_stay_whole(text):
    from peft import LoraConfig, get_peft_model

    name = "qwen2_5_vl"
    torch.manual_seed(0)
    config = LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    net = get_peft_model(build_model(name), config).eval()
    said = answer(net, inputs(name)).tolist()
    before = marks(net)
    adapters = {path: part.clone() for path, part in net.named_parameters() if "lora_" in path}
    with quantize(net, Precision.parse(text)), torch.no_grad():
        assert adapters and all(
            torch.equal(part, dict(net.named_parameters())[path]) for path, part in adapters.items()
        )
        assert any("base_layer" in path for path in linear_layers(build_peft_like(net), tower=False))
        with net.disable_adapter():
            plain = net(**inputs(name)).logits
        assert (net(**inputs(name)).logits - plain).abs().max() > 1e-2
    assert_same(before, marks(net))
    assert answer(net, inputs(name)).tolist() == said


def build_peft_like(net):
    """The same layers without quantised weights, for names only."""
    from peft import LoraConfig, get_peft_model

    return get_peft_model(build_model("qwen2_5_vl"), LoraConfig(r=4, target_modules=["q_proj", "v_proj"]))


@needs_torchao
@pytest.mark.parametrize("text", REAL)
def test_a_library_and_the_simulation_agree(text):
    """Both round each weight by at most half of their own step, so they differ by at most the mean of their steps."""
    net, prompt = build_model("qwen2_5_vl"), inputs("qwen2_5_vl")
    said, real = logits(net, prompt), Precision.parse(text)
    plain = {path: layer.weight.clone() for path, layer in linear_layers(net, tower=False).items()}
    bits, group = real.weights.bits, 16 if real.weights.bits == 4 else None
    with quantize(net, real) as quantised:
        assert quantised.fast == (bits == 8) and bool(quantised.notes) == (bits == 4)
        for path, weight in plain.items():
            stored = net.get_submodule(path).weight.dequantize()
            parts = weight.unflatten(-1, (-1, group or weight.shape[-1]))
            own = 2 * parts.abs().amax(-1, keepdim=True) / (2**bits - 2)
            simulated = (parts.amax(-1, keepdim=True) - parts.amin(-1, keepdim=True)) / (2**bits - 1)
            bound = ((own + simulated) / 2 * 1.01).expand(parts.shape).flatten(-2)
            assert ((stored - round_trip(weight, bits, group)).abs() <= bound).all()
        real_logits = logits(net, prompt)
    words = ",".join(part.replace("int", "sim") for part in text.split(",") if "group" not in part)
    with quantize(net, Precision.parse(f"{words},group={group or 4096}")):
        simulated_logits = logits(net, prompt)
    # Neither is nearer to the other than to the full model in general; both errors are of one size.
    errors = [(found - said).norm() / said.norm() for found in (real_logits, simulated_logits)]
    assert max(errors) < (0.1 if bits == 8 else 1.0) and max(errors) < 3 * min(errors)


def steps(values, bits, group):
    """(..., D): a library's even steps about zero, and the simulation's between the ends, where each value lies."""
    parts = values.unflatten(-1, (-1, group))
    centred = 2 * parts.abs().amax(-1, keepdim=True) / (2**bits - 2)
    between = (parts.amax(-1, keepdim=True) - parts.amin(-1, keepdim=True)) / (2**bits - 1)
    return [step.expand(parts.shape).flatten(-2) for step in (centred, between)]


@needs_torchao
@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("shift", [0.0, 2.0])
@torch.no_grad()
def test_activations_of_a_library_and_of_the_simulation_agree(bits, shift):
    """What both round, times the other factor: no output of a layer differs by more than half of both steps allow.

    With 8-bit weights torchao's activations have steps about zero, twice the simulation's where all values have one
    sign; with 4-bit weights theirs lie between the ends, zero among them.
    """
    net, group = build_model("qwen2_5_vl"), 16
    layer = net.model.language_model.layers[0].mlp.down_proj
    tokens = torch.randn(40, layer.in_features, generator=torch.Generator().manual_seed(0)) + shift
    weight, exact, found = layer.weight.clone(), layer(tokens), {}
    size = group if bits == 4 else layer.in_features
    for kind in ("int", "sim"):
        weights = f"weights={kind}{bits},group={size}"
        with quantize(net, Precision.parse(f"{weights},activations={kind}8")):
            found[kind] = layer(tokens)
        with quantize(net, Precision.parse(weights)):
            assert (found[kind] - layer(tokens)).abs().max() > 1e-3, "activations were not rounded"
    of_weight = sum(steps(weight, bits, size)) / 2
    of_token = sum(steps(tokens, 8, tokens.shape[-1])) / 2
    # |ab - cd| <= |a - c| |b| + |c| |b - d|, with b and c each within half a step of the exact ones.
    bound = of_token @ (weight.abs() + of_weight).T + (tokens.abs() + of_token) @ of_weight.T
    apart = (found["int"] - found["sim"]).abs()
    assert apart.max() > 0 and (apart <= bound * 1.01).all()
    # The bound takes all errors to add up; they do not, by far.
    errors = [(one - exact).norm() / exact.norm() for one in found.values()]
    assert max(errors) < (0.02 if bits == 8 else 0.2)


def stored_weight(layer):
    """What a stand-in multiplies with: how it answers to unit vectors, whatever form it keeps its weights in."""
    bias = 0.0 if layer.bias is None else layer.bias
    return (layer(torch.eye(layer.in_features)) - bias).T


@pytest.mark.parametrize("text", STAND_INS)
def test_stand_ins_hold_the_weights_they_stand_for(text):
    """Within a step of each library's grid: a whole one for HQQ, whose zero moves; NF4's steps are uneven."""
    net, prompt = build_model("qwen2_5_vl"), inputs("qwen2_5_vl")
    precision, said = Precision.parse(text), logits(net, prompt)
    layers = linear_layers(net, tower=False)
    plain = {path: layer.weight.clone() for path, layer in layers.items()}
    whole = quantize(net, Precision()).weight_bytes()
    with quantize(net, precision) as quantised, torch.no_grad():
        found = logits(net, prompt)
        assert quantised.notes and quantised.fast == (precision.library == "bitsandbytes")
        assert 0.05 * whole < quantised.weight_bytes() < whole
        for path, weight in plain.items():
            stored = stored_weight(net.get_submodule(path))
            assert not torch.equal(stored, weight)
            # Kernels of bitsandbytes round scale, value and product to bfloat16, each within 2**-9 of itself.
            digits = 2**-7 if precision.library == "bitsandbytes" else 1e-6
            bound = bound_of(precision, weight)
            assert ((stored - weight).abs() <= bound + (weight.abs() + bound) * digits + 1e-6).all()
        assert 0 < (found - said).norm() < (0.1 if precision.weights.bits == 8 else 1.0) * said.norm()
    assert torch.equal(logits(net, prompt), said)


def bound_of(precision, weight):
    if precision.library == "hqq":
        parts = weight.unflatten(-1, (-1, precision.group))
        step = (parts.amax(-1, keepdim=True) - parts.amin(-1, keepdim=True)) / (2**precision.weights.bits - 1)
        return step.expand(parts.shape).flatten(-2)
    if precision.weights.bits == 8:
        return weight.abs().amax(-1, keepdim=True) / 127 / 2
    # Half of NF4's widest step, between the two lowest of its values, for blocks of 64 neighbours in memory.
    flat = weight.flatten()
    blocks = torch.nn.functional.pad(flat, (0, -flat.numel() % 64)).view(-1, 64)
    widest = (1.0 - 0.6961928) / 2
    return (blocks.abs().amax(-1, keepdim=True) * widest).expand(blocks.shape).flatten()[: flat.numel()].view_as(weight)


@pytest.mark.parametrize("text", STAND_INS)
def test_layers_that_cannot_come_back_are_freed(text):
    net = build_model("qwen2_5_vl")
    quantised = quantize(net, Precision.parse(text), undoable=False)
    whole = quantize(build_model("qwen2_5_vl"), Precision()).weight_bytes()
    assert quantised.weight_bytes() < whole and not quantised._stand_ins.places


@pytest.mark.parametrize("text", ["weights=int8", "weights=int4,group=16"])
def test_without_torchao_it_says_what_to_install(text, monkeypatch):
    for name in ("torchao", "torchao.quantization"):
        monkeypatch.setitem(sys.modules, name, None)
    net = build_model("qwen2_5_vl")
    before = marks(net)
    with pytest.raises(MissingPackageError) as error:
        quantize(net, Precision.parse(text))
    assert "framefusion[quantized]" in error.value.hint and "weights=sim" in error.value.hint
    assert_same(before, marks(net))


@needs_torchao
def test_what_is_quantised_is_not_quantised_again():
    net = build_model("qwen2_5_vl")
    with quantize(net, Precision.parse("weights=int8")), pytest.raises(OptionError, match="already"):
        quantize(net, Precision.parse("weights=int8"))


@needs_torchao
def test_a_group_that_does_not_divide_leaves_the_model_alone():
    net = build_model("qwen2_5_vl")
    before = marks(net)
    with pytest.raises(OptionError, match="divide"):
        quantize(net, Precision.parse("weights=int4,activations=int8,group=96"))
    assert_same(before, marks(net))


@pytest.mark.parametrize(
    ("text", "install"),
    [("weights=int8", "pip install 'framefusion[quantized]'"), ("weights=int8,library=hqq", "pip install hqq")],
)
def test_without_the_library(monkeypatch, text, install):
    from framefusion.inference.quantization import libraries

    monkeypatch.setattr(libraries, "find_spec", lambda name: None)
    net = build_model("qwen2_5_vl")
    before = marks(net)
    with pytest.raises(MissingPackageError) as error:
        quantize(net, Precision.parse(text))
    assert install in error.value.hint and "weights=sim8" in error.value.hint
    assert_same(before, marks(net))
