"""AdaptPrune against its plain transcription."""

from __future__ import annotations

import pytest
import torch

from framefusion.core.errors import OptionError
from framefusion.methods.adaptprune import AdaptPrune
from tests.methods.decoder import GRIDS, Walk, cells, clips, draw, patches, values, weights
from tests.reference import adaptprune


def alike_keys(count: int, seed: int) -> torch.Tensor:
    """Keys whose cosines are near one, where the narrow similarity Gaussian makes a difference."""
    return 1.0 + 0.3 * draw(count, 2, 4, seed=seed)


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("keep", [0.1, 0.4, 0.9])
@pytest.mark.parametrize(
    "options", [{}, {"centre_sigma": 0.5, "radius": 1.5, "distance_sigma": 3.0, "similarity_sigma": 0.3}]
)
@pytest.mark.parametrize("seed", range(2))
def test_same_tokens_as_the_plain_one(grid, keep, options, seed):
    geometry = GRIDS[grid]
    attention, keys = weights(1, len(geometry), seed), alike_keys(len(geometry), seed)
    walk = Walk(
        AdaptPrune(keep, **options),
        geometry,
        values(geometry),
        lambda layer, alive: {"attention": attention[:, alive], "keys": keys[alive]},
    )
    for clip in clips(geometry):
        tokens = patches(geometry, clip)
        flat = keys[tokens].flatten(1).tolist()
        expected = adaptprune.survivors(attention[0, tokens].tolist(), flat, cells(geometry, tokens), keep, **options)
        assert [t for t in walk.alive.tolist() if t in tokens] == [tokens[i] for i in expected]


def test_alike_neighbours_make_room():
    """With even attention the choices spread out instead of crowding the centre."""
    geometry = GRIDS["square"][torch.arange(36)]
    signals = {"attention": torch.full((1, 36), 0.01), "keys": torch.ones(36, 2, 4)}
    crowded = Walk(AdaptPrune(4, radius=0.0), geometry, values(geometry), lambda layer, alive: signals).alive
    spread = Walk(AdaptPrune(4), geometry, values(geometry), lambda layer, alive: signals).alive
    assert crowded.tolist() == [14, 15, 20, 21]
    assert spread.tolist() != crowded.tolist()


@pytest.mark.parametrize("option", ["centre_sigma", "distance_sigma", "similarity_sigma"])
def test_widths_are_positive(option):
    with pytest.raises(OptionError, match=option):
        AdaptPrune(**{option: 0.0})
    with pytest.raises(OptionError, match="radius"):
        AdaptPrune(radius=-1.0)
