"""Layouts against what is seen when one place of one frame changes, on prompts of the families' own processors."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import pytest
import torch

from framefusion.core.layout import Geometry
from framefusion.testing.conformance.oracle import Disagreement, NotRun, Oracle
from framefusion.testing.conformance.toy import names
from framefusion.testing.conformance.visuals import Visual, clip

KNOWN = dict(names())
PICTURE = Visual("image", clip(1, seed=9))
CASES = {
    "odd": [Visual("video", clip(5))],
    "static": [Visual("video", clip(4, moving=False))],
    "two": [Visual("video", clip(4)), Visual("video", clip(4, seed=1))],
    "twice": [Visual("video", clip(4))] * 2,
    "picture first": [PICTURE, Visual("video", clip(4))],
    "pictures": [PICTURE] * 2,
}
FAMILIES = ("qwen3_vl", "lfm3_vl", "glm4v", "glm5_next", "kimi_k25", "minimax_m3_vl", "muse_glimmer", "muse_spark")


@cache
def oracle(name: str) -> Oracle:
    if name not in KNOWN:
        pytest.skip(f"this transformers has no {name}")
    return Oracle(name, KNOWN[name])


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", FAMILIES)
def test_the_layout_says_what_is_seen(name: str, case: str) -> None:
    try:
        oracle(name).judge(CASES[case], whole=case == "odd")
    except NotRun as error:
        pytest.skip(f"{name}: {error}")


def test_a_wrong_layout_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """One row of tokens, frames that are swapped, two videos told as one."""
    seer = oracle("qwen3_vl")
    right = seer.layout

    def wrong(change):
        def layout(inputs):
            found = right(inputs)
            return replace(found, rows=tuple((change(geometry), place) for geometry, place in found.rows))

        return layout

    monkeypatch.setattr(seer, "layout", wrong(lambda g: Geometry.grid(3, 1, len(g) // 3)))
    with pytest.raises(Disagreement, match="told"):
        seer.judge(CASES["odd"])
    monkeypatch.setattr(seer, "layout", wrong(lambda g: replace(g, frame=2 - g.frame)))
    with pytest.raises(Disagreement, match="frames of a clip"):
        seer.judge(CASES["odd"])
    monkeypatch.setattr(seer, "layout", wrong(lambda g: replace(g, clip=torch.zeros_like(g.clip))))
    with pytest.raises(Disagreement, match="several visuals"):
        seer.judge(CASES["two"], whole=False)
