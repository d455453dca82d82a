"""Fewer bits and fewer tokens begin and end in any order, and what the process had set is left as it was."""

from __future__ import annotations

from importlib.util import find_spec
from itertools import product

import pytest
import torch
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

import framefusion as ff
from framefusion.core.errors import OptionError
from framefusion.engine.attention_observer import PREFIX
from framefusion.inference.quantization import Precision, quantize
from tests.behaviour.support import fast_v, inputs
from tests.support.tiny import build_model

EMULATED = "attention=sage-emulated"
needs_torchao = pytest.mark.skipif(find_spec("torchao") is None, reason="needs torchao")


@torch.no_grad()
def logits(net, prompt):
    return net(**prompt).logits[:, -1]


@pytest.mark.parametrize(
    ("name", "text", "attn"),
    [("qwen2_5_vl", EMULATED, "sdpa"), ("gemma3", f"weights=sim4,activations=sim8,group=16,{EMULATED}", "eager")],
)
def test_either_may_begin_and_end_first(name, text, attn):
    net, prompt = build_model(name, attn=attn), inputs(name)
    start = {"bits": lambda: quantize(net, Precision.parse(text)), "tokens": lambda: ff.reduce(net, fast_v(name))}
    plain, alone = logits(net, prompt), {}
    for part, begin in start.items():
        with begin():
            alone[part] = logits(net, prompt)
    configured = net.config.get_text_config()._attn_implementation_internal
    with start["bits"](), start["tokens"]():
        both = logits(net, prompt)
    assert not torch.equal(both, alone["bits"]) and not torch.equal(both, alone["tokens"])
    for first, ends in product(start, start):
        second, stays = (next(part for part in start if part != one) for one in (first, ends))
        handles = {part: start[part]() for part in (first, second)}
        assert torch.equal(logits(net, prompt), both), f"{first} first"
        handles[ends].remove()
        assert torch.equal(logits(net, prompt), alone[stays]), f"{first} first, {ends} ended"
        handles[stays].remove()
        assert net.config.get_text_config()._attn_implementation_internal == configured == attn
        assert not [one for one in ALL_ATTENTION_FUNCTIONS._global_mapping if one.startswith(PREFIX)]
    assert torch.equal(logits(net, prompt), plain)


def test_attention_is_not_laid_over_attention():
    net, prompt = build_model("qwen2_5_vl"), inputs("qwen2_5_vl")
    said = logits(net, prompt)
    with quantize(net, Precision.parse(EMULATED)), ff.reduce(net, fast_v("qwen2_5_vl")):
        with pytest.raises(OptionError, match="cannot be laid over") as error:
            quantize(net, Precision.parse(EMULATED))
        assert "remove()" in error.value.hint
    assert torch.equal(logits(net, prompt), said)


@needs_torchao
@pytest.mark.parametrize("text", ["weights=int8", "weights=int8,activations=int8"])
def test_what_the_process_had_set_stays(text):
    """torchao's conversion tells inductor how to tune and fuse, for every model of the process."""
    from torch._inductor import config

    with config.patch(coordinate_descent_tuning=False, force_fuse_int_mm_with_mul=False):
        before, products = config.get_config_copy(), torch.get_float32_matmul_precision()
        quantised = quantize(build_model("qwen2_5_vl"), Precision.parse(text))
        assert config.get_config_copy() == before and torch.get_float32_matmul_precision() == products
        quantised.remove()
        assert config.get_config_copy() == before
