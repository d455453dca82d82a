"""FastV against its plain transcription."""

from __future__ import annotations

import pytest
import torch

from framefusion.methods.fastv import FastV
from tests.methods.decoder import GRIDS, Walk, clips, patches, values, weights
from tests.reference import fastv


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("keep", [0.1, 0.5, 0.85])
@pytest.mark.parametrize("seed", range(3))
def test_same_tokens_as_the_plain_one(grid, keep, seed):
    geometry = GRIDS[grid]
    attention = weights(2, len(geometry), seed)
    walk = Walk(FastV(keep), geometry, values(geometry), lambda layer, alive: {"attention": attention[:, alive]})
    for clip in clips(geometry):
        tokens = patches(geometry, clip)
        expected = [tokens[i] for i in fastv.survivors(attention[-1, tokens].tolist(), keep)]
        assert [token for token in walk.alive.tolist() if token in tokens] == expected


def test_equal_scores_keep_the_earliest():
    geometry = GRIDS["square"]
    even = torch.full((1, len(geometry)), 0.01)
    walk = Walk(FastV(keep=7), geometry, values(geometry), lambda layer, alive: {"attention": even[:, alive]})
    assert walk.alive.tolist() == list(range(7))
