"""Pictures that come encoded (`mm_encoder_outputs`, transformers 5.23 and later) instead of as pixels."""

from __future__ import annotations

import inspect

import pytest
import torch

import framefusion as ff
from framefusion.core.errors import MissingSignalError
from framefusion.inference.reduction import reduce_clips
from framefusion.methods.prumerge import PruMerge
from framefusion.methods.tome import ToMe
from tests.behaviour.support import answer, every_family, families, inputs, method, model


@torch.no_grad()
def encoded(net, prompt):
    """The same prompt with what the tower makes of its pixels."""
    if "mm_encoder_outputs" not in inspect.signature(type(net).forward).parameters:
        pytest.skip("this model takes no encoded pictures in this transformers")
    rest = {key: value for key, value in prompt.items() if not key.startswith("pixel_values")}
    outputs = {}
    for kind, pixels in (("image", "pixel_values"), ("video", "pixel_values_videos")):
        encode = getattr(net.base_model, f"get_{kind}_features", None)
        if encode is not None and pixels in prompt:
            given = {key: prompt[key] for key in inspect.signature(encode).parameters if key in prompt}
            outputs[kind] = encode(**given, return_dict=True)
    return {**rest, "mm_encoder_outputs": outputs}


@every_family
@pytest.mark.parametrize("rows", ["long", "ragged"])
def test_encoded_pictures_are_reduced_like_pixels(name, rows):
    net, prompt = model(name), inputs(name, rows)
    encoded(net, prompt)
    with torch.no_grad(), reduce_clips(net, method(name)) as reduction:
        expected, kept = net(**prompt).logits, reduction.report.surviving_columns
        assert torch.equal(net(**encoded(net, prompt)).logits, expected)
        assert reduction.report.surviving_columns == kept
        assert answer(net, encoded(net, prompt)).tolist() == answer(net, prompt).tolist()


@families("llava")
@pytest.mark.parametrize("act", [PruMerge(keep=5), ToMe()], ids=["looks into the tower", "acts in the tower"])
def test_methods_that_need_the_tower_say_so(name, act):
    net, prompt = model(name), inputs(name, "short")
    given = encoded(net, prompt)
    with ff.reduce(net, act), pytest.raises(MissingSignalError, match="pass the pixels"):
        net(**given)
