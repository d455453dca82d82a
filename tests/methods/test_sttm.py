"""STTM against its plain transcription, and the border of odd grids."""

from __future__ import annotations

import pytest
import torch

from framefusion.core.errors import OptionError
from framefusion.core.layout import Geometry
from framefusion.core.method import before
from framefusion.core.ops.clustering import united
from framefusion.methods.sttm import STTM
from framefusion.testing.signals import make_signals
from tests.methods.decoder import GRIDS, Walk, cells, clips, draw, patches, values
from tests.reference import sttm

SHAPES = {**GRIDS, "large": Geometry.grid(3, 9, 14)}


def nothing(layer: int, alive: torch.Tensor) -> dict:
    return {}


@pytest.mark.parametrize("grid", SHAPES)
@pytest.mark.parametrize("thresholds", [(0.85, 0.65), (0.95, 0.99), (0.7, 1.0)])
@pytest.mark.parametrize("root", [0, 1])
@pytest.mark.parametrize("kind", ["smooth", "duplicates"])
def test_same_groups_and_values_as_the_plain_one(grid, thresholds, root, kind):
    geometry = SHAPES[grid]
    hidden = values(geometry, kind)
    spatial, temporal = thresholds
    walk = Walk(STTM(spatial, temporal, root=root), geometry, hidden, nothing)
    for clip in clips(geometry):
        tokens = patches(geometry, clip)
        groups = sttm.groups(
            hidden[tokens].tolist(),
            [1.0] * len(tokens),
            cells(geometry, tokens),
            spatial,
            None if temporal == 1.0 else temporal,
            root,
        )
        inside = torch.isin(walk.alive, torch.tensor(tokens))
        assert walk.alive[inside].tolist() == [tokens[group[0]] for group in groups]
        assert walk.size[inside].tolist() == [len(group) for group in groups]
        means = torch.stack([hidden[tokens][group].mean(0) for group in groups])
        torch.testing.assert_close(walk.hidden[inside], means)


def test_tokens_count_as_many_as_they_carry():
    geometry = GRIDS["thinned"]
    hidden, size = values(geometry, "smooth"), draw(len(geometry), seed=5).abs() + 1
    plan = STTM(0.8, 0.8).decide(make_signals(geometry, hidden, before(2), size=size))
    everyone = list(range(len(geometry)))
    groups = sttm.groups(hidden.tolist(), size.tolist(), cells(geometry, everyone), 0.8, 0.8)
    assert plan.keep.tolist() == [group[0] for group in groups]
    assert 1 < plan.kept < len(geometry)
    means = torch.stack([(hidden[g] * size[g, None]).sum(0) / size[g].sum() for g in groups])
    torch.testing.assert_close(plan.apply(hidden), means)


@pytest.mark.parametrize(("side", "blocks"), [(14, 16), (13, 16), (16, 16), (4, 16), (3, 9)])
def test_an_even_frame_leaves_its_largest_blocks(side, blocks):
    geometry = Geometry.grid(1, side, side)
    assert len(Walk(STTM(), geometry, torch.ones(side * side, 8), nothing).alive) == blocks


@pytest.mark.parametrize("side", [13, 14])
def test_a_change_in_a_corner_splits_its_own_block_only(side):
    """Blocks at an odd border have no parts elsewhere."""
    geometry, other = Geometry.grid(1, side, side), torch.tensor([10.0, -10.0] * 4)
    hidden = torch.ones(side * side, 8)
    hidden[-1] = other
    # The last block of four by four splits in four, and one of these in four cells.
    assert len(Walk(STTM(), geometry, hidden, nothing).alive) == 16 + 3 + 3
    hidden = torch.ones(side * side, 8)
    hidden[0] = other
    # Its first block holds a single cell where both levels are odd, two by two cells where one is.
    assert len(Walk(STTM(), geometry, hidden, nothing).alive) == {13: 16, 14: 16 + 3}[side]


@pytest.mark.parametrize(("side", "changed", "kept"), [(14, 2, 22), (13, 1, 34)])
def test_published_border_blocks_look_at_the_first_block(side, changed, kept):
    """Counts of the released code: a change of the first block splits blocks at the border that it is no part of."""
    geometry, hidden = Geometry.grid(1, side, side), torch.ones(side, side, 8)
    hidden[:changed, :changed] = torch.tensor([10.0, -10.0] * 4)
    assert len(Walk(STTM(strict=True), geometry, hidden.flatten(0, 1), nothing).alive) == kept


def test_the_published_union_leaves_apart_what_meets_later():
    """Cells that one block of the next frame covers: the released code unites the first one with it only."""
    geometry, other = Geometry.grid(2, 4, 4), torch.tensor([1.0, 0.0, 0.0, 0.0])
    apart = torch.tensor([[1.0, 0.4, 0.0, 0.0], [1.0, -0.4, 0.0, 0.0]] * 8)
    hidden = torch.cat([apart, other.repeat(16, 1)])
    plain = Walk(STTM(0.95, 0.9, root=0), geometry, hidden, nothing)
    strict = Walk(STTM(0.95, 0.9, root=0, strict=True), geometry, hidden, nothing)
    assert plain.alive.tolist() == [0, 2, 8, 10]
    assert strict.alive.tolist() == list(range(16))


def test_a_still_clip_becomes_one_frame():
    geometry = Geometry.grid(4, 3, 5)
    frame = draw(15, 8)
    walk = Walk(STTM(threshold=0.999), geometry, frame.repeat(4, 1), nothing)
    assert walk.alive.tolist() == list(range(15))
    torch.testing.assert_close(walk.hidden, frame)
    assert walk.size.tolist() == [4.0] * 15


def test_united_finds_components_of_long_chains():
    chain = torch.arange(99)
    assert united(101, chain.flip(0), chain.flip(0) + 1).tolist() == [0] * 100 + [100]
    assert united(3, chain[:0], chain[:0]).tolist() == [0, 1, 2]


def test_thresholds_are_cosines():
    for options in ({"threshold": 1.1}, {"temporal_threshold": -1.1}, {"root": -1}):
        with pytest.raises(OptionError):
            STTM(**options)
