"""What the behaviour tests share: models built once, prompts with ragged rows, and a method that merges and prunes."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec

import pytest
import torch

import framefusion as ff
from tests.support.tiny import FAMILIES, build_model, moving_clip, prompt

CLIP, OTHER, THIRD = moving_clip(6), moving_clip(6, seed=2), moving_clip(6, seed=1)
LONG = [("video", CLIP), ("text", "and"), ("video", OTHER), ("text", "what happens here?")]
SHORT = [("text", "hi "), ("video", THIRD), ("text", "?")]
TEXT = [("text", "only words, no video")]


def _parameter(name):
    needs = FAMILIES[name].needs
    missing = needs is not None and find_spec(needs) is None
    return pytest.param(name, marks=pytest.mark.skipif(missing, reason=f"the processor of {name} needs {needs}"))


def families(*names):
    """Parametrise `name` over the families given, over all but siblings when none is."""
    names = names or tuple(name for name, family in FAMILIES.items() if family.sibling is None)
    return pytest.mark.parametrize("name", [_parameter(name) for name in names])


FEW = ("qwen2_5_vl", "qwen3_vl", "qwen3_5", "llava_onevision", "gemma3", "smolvlm")
few_families = families(*FEW)
every_family = families()


@cache
def model(name, **build):
    """A model that every test must leave as it found it."""
    return build_model(name, **build)


@cache
def _inputs(name, rows):
    return prompt(name, {"ragged": [LONG, SHORT], "long": [LONG], "short": [SHORT], "text": [TEXT]}[rows])


def inputs(name, rows="ragged"):
    """`ragged`: two rows of unequal length and unequal numbers of videos, padded on the left. The rest is one row."""
    return {key: value.clone() for key, value in _inputs(name, rows).items()}


@cache
def threshold(name):
    """A threshold that merges about every second token, so that a later layer is left something to prune."""
    return ff.calibrate(model(name), [inputs(name, "long")])


# Its first layer that reaches the whole prompt comes late; with less to read, one token would be left behind it.
COSTS = {"gemma3": 0.7}


def method(name, cost=None):
    cost = COSTS.get(name, 0.4) if cost is None else cost
    return ff.FrameFusion(cost=cost, similarity_lower_bound=threshold(name), ratio_lower_bound=0.15)


def identity():
    return ff.FrameFusion(cost=1.0)


def answer(model, prompt, tokens=8, **options):
    """The new tokens alone, greedy unless told otherwise."""
    output = model.generate(**prompt, max_new_tokens=tokens, **{"do_sample": False, **options})
    return output[:, prompt["input_ids"].shape[1] :]


MROPE = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_5")


def continuation(name, net, prompt, done, count):
    """Mask and positions of `count` tokens behind the prompt and `done` further ones.

    The stock Qwen-VL models take a mask as long as the cache for a mask of the new tokens and fail, so their positions
    are given; the others derive them.
    """
    mask = prompt["attention_mask"]
    mask = torch.cat([mask, mask.new_ones(mask.shape[0], done + count)], 1)
    if name not in MROPE:
        return {"attention_mask": mask}
    positions = (mask.cumsum(1) - 1)[:, -count:] + net.model.rope_deltas
    return {"attention_mask": mask, "position_ids": positions.expand(3, -1, -1)}


def stored_bytes(cache):
    """Bytes of the plain keys and values a cache holds, and of its convolutions' and recurrences' states."""
    tensors = []
    for layer in cache.layers:
        tensors += [getattr(layer, name, None) for name in ("keys", "values")]
        for name in ("conv_states", "recurrent_states"):
            tensors += list(getattr(layer, name, {}).values())
    return sum(t.numel() * t.element_size() for t in tensors if isinstance(t, torch.Tensor))


def fast_v(name):
    """Half of the tokens, by the scores of a layer that reaches all of them: the first ones of Gemma 3 do not."""
    return ff.FastV(keep=0.5, layer={"gemma3": 3}.get(name, 2))
