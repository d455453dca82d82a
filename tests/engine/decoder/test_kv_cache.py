"""A layer of a reduced cache takes what a pass announced, and nothing once that pass is over."""

from __future__ import annotations

import pytest
import torch

from framefusion.core.errors import StaleCacheError
from framefusion.engine.decoder.kv_cache import ReducedLayer
from framefusion.engine.model.cache_names import cache_name, cache_of
from framefusion.inference.reduction import reduce_clips
from tests.behaviour.support import families, inputs, method, model


class Stop(Exception):
    """Raised by the test inside a model."""


@families("qwen2_5_vl", "gemma3", "smolvlm")
@torch.no_grad()
def test_an_interrupted_pass_leaves_the_cache_closed(name, monkeypatch):
    net = model(name)

    def fail(*args, **kwargs):
        raise Stop

    step = {"input_ids": torch.tensor([[3], [4]])}
    with reduce_clips(net, method(name)):
        step[cache_name()] = cache_of(net(**inputs(name), use_cache=True))
        attention = next(iter(net.get_decoder().layers[-1].children()))
        with pytest.raises(Stop), monkeypatch.context() as patch:
            patch.setattr(attention, "forward", fail)
            net(**step)
    layer = next(entry for entry in reversed(step[cache_name()].layers) if isinstance(entry, ReducedLayer))
    stored = layer.keys_seen.length
    with pytest.raises(StaleCacheError):
        layer.update(layer.keys[:, :, :1], layer.values[:, :, :1])
    assert layer.keys_seen.length == stored == layer.keys.shape[-2]
