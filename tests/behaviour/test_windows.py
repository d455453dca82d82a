"""Scores come from layers that reach every visual token: windows and chunks that hide some of them give none."""

from __future__ import annotations

import re

import pytest
import torch
import transformers as hf

import framefusion as ff
from framefusion.core.errors import MissingSignalError
from framefusion.engine.decoder.signals import full_layers
from framefusion.methods.adaptprune import AdaptPrune
from framefusion.methods.dart import DART
from framefusion.methods.holitom import HoliTom
from tests.support.kernels import FLASH, set_attention, use_plain_flash, use_plain_flex
from tests.support.tiny import build_model, moving_clip, prompt

CLIP = moving_clip(8, change=0.8)
PINNED = [
    ff.FastV(keep=0.25, layer=2),
    AdaptPrune(keep=0.25, layer=2),
    ff.PyramidDrop(keep=0.25, layers=(2, 4)),
    ff.SparseVLM(keep=0.25, layers=(2, 4)),
    HoliTom(keep=0.25, layer=2),
]


def windowed(window, layers=6, **build):
    """Gemma 3, two sliding layers for each full one."""
    net = build_model("gemma3", layers=layers, **build)
    net.config.get_text_config().sliding_window = window
    for layer in net.get_decoder().layers:
        if layer.self_attn.sliding_window is not None:
            layer.self_attn.sliding_window = window
    return net


def asked(*rows):
    return prompt("gemma3", [[("video", clip), ("text", text)] for clip, text in rows])


@torch.no_grad()
def frames_kept(net, way, given):
    """Frames that keep a token, per row."""
    with ff.reduce(net, way) as reduction:
        net(**given)
    rows = {}
    for decision in reduction.report.decisions:
        geometry, place = reduction.report.layout.rows[decision.row]
        frame = dict(zip(place.columns.tolist(), geometry.frame.tolist(), strict=True))
        rows[decision.row] = {frame[column] for column in decision.columns[decision.plan.keep].tolist()}
    return rows


@pytest.mark.parametrize("way", PINNED, ids=lambda way: type(way).__name__)
def test_a_method_pinned_to_a_layer_names_one_that_works(way):
    net, given = windowed(60), asked((CLIP, "what?"))
    with pytest.raises(MissingSignalError) as caught, ff.reduce(net, way), torch.no_grad():
        net(**given)
    layer = int(re.search(r"before layer (\d+)", caught.value.hint).group(1))
    named = {"layers": (layer,)} if hasattr(way, "layers") else {"layer": layer}
    frames_kept(net, type(way)(keep=0.25, **named), given)


def test_framefusion_waits_for_a_layer_that_reaches_the_whole_prompt():
    net = windowed(60)
    with ff.reduce(net, ff.FrameFusion(cost=0.5, similarity_lower_bound=1.0)) as reduction, torch.no_grad():
        net(**asked((CLIP, "what?")))
    (pruned,) = [decision for decision in reduction.report.decisions if decision.plan.kept < decision.plan.count]
    assert pruned.point.layer == 2


@pytest.mark.parametrize("way", PINNED, ids=lambda way: type(way).__name__)
def test_a_window_that_hides_nothing_is_as_good_as_a_full_layer(way):
    given = asked((CLIP, "what?"))
    wide, wider = (frames_kept(windowed(size), way, given) for size in (200, 4000))
    assert wide == wider


def test_rows_are_told_apart():
    """The window hides pictures of the longer row alone; the shorter one is pruned at the first layer."""
    net, way = windowed(60), ff.FrameFusion(cost=0.5, similarity_lower_bound=1.0)
    with ff.reduce(net, way) as reduction, torch.no_grad():
        net(**asked((CLIP, "what?"), (CLIP[:2], "what?")))
    layers = {d.row: d.point.layer for d in reduction.report.decisions if d.plan.kept < d.plan.count}
    assert layers == {0: 2, 1: 0}


@pytest.mark.parametrize("kernel", [FLASH, "flex_attention"])
def test_windows_of_kernels_without_a_dense_mask(kernel, monkeypatch):
    {FLASH: use_plain_flash, "flex_attention": use_plain_flex}[kernel](monkeypatch)
    net = windowed(60)
    set_attention(net, kernel)
    set_attention(net.model.vision_tower, "sdpa")
    with pytest.raises(MissingSignalError, match="layer 1"):
        frames_kept(net, ff.FastV(keep=0.25, layer=2), asked((CLIP, "what?")))
    assert frames_kept(net, ff.FastV(keep=0.25, layer=2), asked((CLIP[:2], "what?")))


def test_keys_do_not_depend_on_windows():
    assert frames_kept(windowed(60), DART(keep=0.25, layer=2), asked((CLIP, "what?")))


def test_a_model_of_sliding_layers_alone_has_no_layer_to_name():
    """Mistral's configuration names no kinds of layers; a window without them is that of every layer."""
    assert full_layers(hf.MistralConfig(num_hidden_layers=3, sliding_window=16), 3) == []
    assert full_layers(hf.MistralConfig(num_hidden_layers=3, sliding_window=None), 3) == [0, 1, 2]


def test_the_last_layer_is_no_place_to_act_behind():
    net = windowed(60, layers=3)
    assert full_layers(net.config.get_text_config(), 3) == [2]
    with pytest.raises(MissingSignalError) as caught:
        frames_kept(net, ff.FastV(keep=0.25, layer=2), asked((CLIP, "what?")))
    assert "in front of another one" in caught.value.hint and "DivPrune" in caught.value.hint
