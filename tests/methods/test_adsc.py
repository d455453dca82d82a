"""ADSC's rule against its plain transcription."""

from __future__ import annotations

import pytest

from framefusion.methods.adsc import ADSC
from tests.methods.decoder import GRIDS, Walk, clips, everything, patches, values
from tests.reference import adsc


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("keep", [0.1, 0.3, 0.8])
def test_same_tokens_as_the_plain_one(grid, keep):
    geometry = GRIDS[grid]
    walk = Walk(ADSC(keep), geometry, values(geometry), everything(geometry))
    for clip in clips(geometry):
        tokens = patches(geometry, clip)
        left = tokens
        for step in (1, 2, 3):
            count = max(1, round(len(tokens) * keep), round(len(tokens) * keep ** (step / 3)))
            left = adsc.survivors(left, count) if count < len(left) else left
        assert [t for t in walk.alive.tolist() if t in tokens] == left


def test_may_act_at_the_prompt_point():
    geometry = GRIDS["square"]
    walk = Walk(ADSC(keep=0.25, layers=(0, 2)), geometry, values(geometry), everything(geometry))
    assert walk.counts == {0: 54, 2: 27}
    assert walk.alive.tolist() == list(range(0, 108, 4))
