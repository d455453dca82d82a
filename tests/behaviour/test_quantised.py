"""Checkpoints loaded quantised through transformers: they answer as they did, and reduce as the full model does."""

from __future__ import annotations

from importlib.util import find_spec

import pytest
import torch
import transformers as hf

import framefusion as ff
from tests.behaviour.support import answer, identity, inputs, method, model
from tests.support.tiny import FAMILIES, build_model

pytestmark = pytest.mark.slow

NAME = "qwen2_5_vl"
WHOLE = ["visual", "lm_head"]


def torchao(bits):
    from torchao.quantization import Int8WeightOnlyConfig, IntxWeightOnlyConfig
    from torchao.quantization.granularity import PerGroup

    four = IntxWeightOnlyConfig(weight_dtype=torch.int4, granularity=PerGroup(16)) if bits == 4 else None
    return hf.TorchAoConfig(four or Int8WeightOnlyConfig(), modules_to_not_convert=WHOLE)


# Name: the package it needs, transformers' description of it, and the error its bits may cost.
QUANTISED = {
    "torchao-int8": ("torchao", lambda: torchao(8), 0.3),
    "torchao-int4": ("torchao", lambda: torchao(4), 0.8),
    "quanto-int8": ("optimum", lambda: hf.QuantoConfig("int8", modules_to_not_convert=WHOLE), 0.3),
    "hqq-int4": ("hqq", lambda: hf.HqqConfig(nbits=4, group_size=16, skip_modules=WHOLE), 0.8),
    "bitsandbytes-int8": (
        "bitsandbytes",
        lambda: hf.BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=WHOLE),
        0.3,
    ),
}


def _parameter(name):
    package = QUANTISED[name][0]
    return pytest.param(name, marks=pytest.mark.skipif(find_spec(package) is None, reason=f"needs {package}"))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoint")
    build_model(NAME).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("way", [_parameter(name) for name in QUANTISED])
def test_a_checkpoint_loaded_quantised(checkpoint, way):
    _, make, bound = QUANTISED[way]
    try:
        net = getattr(hf, FAMILIES[NAME].model_class).from_pretrained(checkpoint, quantization_config=make()).eval()
    except NotImplementedError as error:
        pytest.skip(f"this transformers does not load it: {error}")
    net.generation_config.eos_token_id = None
    projection, plain = (one.get_decoder().layers[0].self_attn.q_proj for one in (net, model(NAME)))
    assert (type(projection), type(projection.weight)) != (type(plain), type(plain.weight))
    dense = answer(net, inputs(NAME), 4).tolist()
    with ff.reduce(net, identity()):
        assert answer(net, inputs(NAME), 4).tolist() == dense
    with ff.reduce(net, method(NAME)) as reduction, torch.no_grad():
        logits = net(**inputs(NAME)).logits[:, -1]
    with ff.reduce(model(NAME), method(NAME)), torch.no_grad():
        full = model(NAME)(**inputs(NAME)).logits[:, -1]
    assert reduction.report.kept_fraction < 1
    assert (logits - full).norm() < bound * full.norm()
    assert answer(net, inputs(NAME), 4).tolist() == dense
