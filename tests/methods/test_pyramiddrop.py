"""PyramidDrop against its plain transcription, and the schedule it shares with other methods."""

from __future__ import annotations

import pytest

from framefusion.core.errors import OptionError
from framefusion.core.progressive import Steps
from framefusion.methods.pyramiddrop import PyramidDrop
from tests.methods.decoder import GRIDS, Walk, clips, everything, patches, values
from tests.reference import pyramiddrop


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("seed", range(3))
def test_same_tokens_as_the_plain_one(grid, seed):
    geometry = GRIDS[grid]
    signals_at = everything(geometry, seed)
    walk = Walk(PyramidDrop(), geometry, values(geometry), signals_at)
    for clip in clips(geometry):
        tokens = patches(geometry, clip)
        attentions = [signals_at(layer, tokens)["attention"][0].tolist() for layer in (1, 2, 3)]
        expected = pyramiddrop.survivors(attentions, pyramiddrop.counts(len(tokens), 0.5, 3))
        assert [t for t in walk.alive.tolist() if t in tokens] == [tokens[i] for i in expected]
    assert set(walk.counts) == {1, 2, 3}


def test_published_layers_scale_with_depth():
    assert [point.layer for point in PyramidDrop().stages()[0].points(32)] == [8, 16, 24]
    assert [point.layer for point in PyramidDrop().stages()[0].points(28)] == [7, 14, 21]
    assert [point.layer for point in PyramidDrop(layers=(2, 5)).stages()[0].points(28)] == [2, 5]
    assert [point.layer for point in PyramidDrop().stages()[0].points(2)] == [1]


def test_published_ratio_halves_at_each_stage():
    assert Steps(0.125, None, (8, 16, 24), 32, rounding=int).counts(576, 3) == [288, 144, 72]


def test_shares_replace_the_equal_steps():
    geometry = GRIDS["square"]
    method = PyramidDrop(layers=(1, 3), shares=(0.5, 0.25))
    assert Walk(method, geometry, values(geometry), everything(geometry)).counts == {1: 54, 3: 27}


def test_shares_must_fit_the_layers_a_shallow_model_has():
    geometry = GRIDS["square"]
    with pytest.raises(OptionError, match="shares"):
        Walk(PyramidDrop(shares=(0.5, 0.4, 0.3)), geometry, values(geometry), everything(geometry), layers=2)


def test_counts_follow_what_is_there_when_the_first_step_comes():
    geometry = GRIDS["thinned"]
    method = PyramidDrop(keep=0.5, layers=(2,))
    assert Walk(method, geometry, values(geometry), everything(geometry)).counts == {2: len(geometry) // 2}
