"""Time of the tower and of the projector, where one is inside the other and where it is not."""

from __future__ import annotations

import time

import pytest
import torch
from torch import nn

import framefusion as ff
from framefusion.inference.answer.split import timed, vision_times
from tests.support.tiny import build_model, moving_clip, prompt

SEGMENTS = [("video", moving_clip(frames=4)), ("text", "what happens here?")]


@pytest.mark.parametrize("reduced", [False, True], ids=["dense", "reduced"])
@pytest.mark.parametrize(("family", "nested"), [("qwen2_5_vl", True), ("llava_onevision", False), ("internvl", False)])
def test_tower_and_projector_are_told_apart(family: str, nested: bool, reduced: bool) -> None:
    model = build_model(family)
    method = ff.FrameFusion(cost=0.5)
    with torch.no_grad(), ff.reduce(model, method) if reduced else torch.no_grad(), vision_times(model) as spent:
        model(**prompt(family, [SEGMENTS]))
    assert spent.nested is nested and len(spent.tower) >= 1 and len(spent.projector) >= 1
    tower, projector = spent.tower_ms, spent.projector_ms
    assert tower is not None and projector is not None
    assert tower == pytest.approx(sum(spent.tower) - (projector if nested else 0.0)) and tower > 0
    hooks = [
        hook
        for module in model.modules()
        for hook in (*module._forward_pre_hooks.values(), *module._forward_hooks.values())
    ]
    assert not any(hook.__module__ == vision_times.__module__ for hook in hooks)


def test_a_prompt_without_pictures_has_neither() -> None:
    model = build_model("qwen2_5_vl")
    with torch.no_grad(), vision_times(model) as spent:
        model(**prompt("qwen2_5_vl", [[("text", "what happens?")]]))
    assert spent.tower_ms is None and spent.projector_ms is None


def test_what_other_hooks_do_counts() -> None:
    module = nn.Linear(1, 1)
    waits = [module.register_forward_pre_hook(lambda *_: time.sleep(0.02)), module.register_forward_hook(_wait)]
    with timed(module) as spent:
        module(torch.zeros(1))
    assert len(spent) == 1 and spent[0] >= 40.0
    for wait in waits:
        wait.remove()
    assert not module._forward_hooks and not module._forward_pre_hooks


def _wait(*_: object) -> None:
    time.sleep(0.02)
