"""Blocks that repeat what an earlier one lets expect leave a picture; a gradient does not fade away."""

from __future__ import annotations

import pytest
import torch

from framefusion.core.ops.pixel_blocks import distinct_blocks


def one_by_one(blocks, grid, threshold):
    """The same rule, block by block as it is published."""
    rows, columns = grid

    def alike(one, other):
        return float((blocks[one] - blocks[other]).abs().max()) <= threshold

    anchor, stays = {}, []
    for row in range(rows):
        for column in range(columns):
            here, left, above = (row * columns + column - step for step in (0, 1, columns))
            predicted = left if column else above
            if row and column:
                corner = above - 1
                if alike(corner, left) and not alike(corner, above):
                    predicted = above
            stay = here == 0 or not alike(here, anchor[predicted])
            anchor[here] = here if stay else anchor[predicted]
            stays.append(stay)
    return stays


@pytest.mark.parametrize("threshold", [0.0, 0.25, 1.0])
@pytest.mark.parametrize("grid", [(1, 1), (1, 7), (7, 1), (6, 5)])
def test_the_rule_is_the_published_one(grid, threshold):
    for seed in range(20):
        random = torch.Generator().manual_seed(seed)
        blocks = torch.randint(0, 3, (grid[0] * grid[1], 1), generator=random) / 4.0
        blocks = blocks.view(-1, 1, 1, 1).expand(-1, 3, 2, 2)
        assert distinct_blocks(blocks, grid, threshold).tolist() == one_by_one(blocks, grid, threshold)


def test_paper_is_one_block_and_noise_stays():
    assert distinct_blocks(torch.ones(12, 3, 4, 4), (3, 4), 0.0).tolist() == [True] + [False] * 11
    noise = torch.rand(12, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    assert distinct_blocks(noise, (3, 4), 0.0).all()
    almost = torch.ones(4, 3, 4, 4)
    almost[3, 0, 0, 0] -= 1e-3
    assert distinct_blocks(almost, (2, 2), 0.0).tolist() == [True, False, False, True]


def test_a_slow_gradient_does_not_fade_away():
    """Every step is below the threshold, their sum is not."""
    blocks = torch.linspace(0, 1, 21).view(-1, 1, 1, 1).expand(-1, 3, 4, 4)
    assert distinct_blocks(blocks, (1, 21), 0.12).sum() == 7
