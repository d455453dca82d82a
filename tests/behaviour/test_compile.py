"""What may be compiled in a reduced model, and in which order."""

from __future__ import annotations

import pytest
import torch

import framefusion as ff
from framefusion.core.errors import CompiledModelError
from tests.support.cases import METHODS, inputs_of, model_of

METHOD = METHODS["framefusion"]


@pytest.fixture
def layers():
    found = model_of("qwen2_vl").get_decoder().layers
    yield found
    for layer in found:
        layer._compiled_call_impl = layer.mlp._compiled_call_impl = None


def logits():
    with torch.no_grad():
        return model_of("qwen2_vl")(**inputs_of("qwen2_vl", "full")).logits


def test_what_lies_inside_the_layers_may_be_compiled_after_reduce(layers):
    with ff.reduce(model_of("qwen2_vl"), METHOD):
        expected = logits()
        for layer in layers:
            layer.mlp.compile(backend="eager", dynamic=True)
        assert torch.equal(logits(), expected)


def test_layers_compiled_after_reduce_are_refused(layers):
    with ff.reduce(model_of("qwen2_vl"), METHOD):
        layers[1].compile(backend="eager")
        with pytest.raises(CompiledModelError, match="inside the layer"):
            logits()
