"""Maps as PNG and GIF."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from framefusion.evaluation.view import palette
from framefusion.evaluation.view.picture import panels, tinted, write_animation
from framefusion.evaluation.view.token_history import KEPT, MERGED, PRUNED
from tests.support.seeing import scene

CELL = 20


def black(seen):
    """The scene on black pictures, so that colours show as they are."""
    return replace(seen, pictures=tuple(replace(p, image=Image.new("RGB", (8, 8))) for p in seen.pictures))


@pytest.mark.parametrize("method", ["framefusion", "prunevid", "uniform"])
def test_every_patch_has_the_colour_of_its_fate(method):
    seen = black(scene("qwen2_5_vl", method))
    for after in range(len(seen.history.steps) + 1):
        states, fresh, carried = seen.history.states(after), seen.history.fresh(after), seen.history.carried(after)
        for picture in seen.pictures:
            rows, columns = picture.cells.shape
            drawn = np.asarray(tinted(seen, picture, after, (columns * CELL, rows * CELL)))
            for (row, column), token in np.ndenumerate(picture.cells):
                cell = drawn[row * CELL : (row + 1) * CELL, column * CELL : (column + 1) * CELL]
                share = palette.FRESH if fresh[token] else palette.EARLIER
                expected = {
                    KEPT: (0, 0, 0),
                    MERGED: [share * part for part in palette.rgb(palette.MERGED)],
                    PRUNED: [share * part for part in palette.rgb(palette.PRUNED)],
                }[states[token]]
                # The brightest pixel inside: hatching darkens some, frames are at the border.
                assert np.abs(cell[4:-4, 4:-4].max((0, 1)) - expected).max() <= 1
                framed = tuple(cell[0, CELL // 2]) == palette.rgb(palette.CARRIES)
                assert framed == (states[token] == KEPT and carried[token] > 1)


def test_a_patch_that_was_not_encoded_has_a_corner_of_its_own():
    seen = black(scene("qwen2_5_vl", "pixel_dedup", keep=0.6))
    for picture in seen.pictures:
        rows, columns = picture.cells.shape
        drawn = np.asarray(tinted(seen, picture, 0, (columns * CELL, rows * CELL)))
        for (row, column), token in np.ndenumerate(picture.cells):
            corner = drawn[row * CELL, (column + 1) * CELL - 1]
            assert (tuple(corner) == palette.rgb(palette.REPEATED)) == (seen.repeats[token] != token)
            assert not drawn[(row + 1) * CELL - 1, column * CELL].any()


def test_one_panel_per_point():
    seen = scene("qwen3_vl", "pyramiddrop")
    heights = [
        panels(replace(seen, history=replace(seen.history, steps=seen.history.steps[:n]))).height for n in (1, 2, 3)
    ]
    assert len(seen.history.steps) == 3 and heights[2] - heights[1] == heights[1] - heights[0] > 0
    nothing = scene("llava_onevision", "tome")
    assert panels(nothing).width == panels(seen).width


@pytest.mark.parametrize("over_frames", [False, True])
def test_an_animation_runs_through_points_or_frames(over_frames, tmp_path):
    seen = scene("qwen2_5_vl")
    write_animation(seen, tmp_path / "map.gif", over_frames)
    with Image.open(io.BytesIO((tmp_path / "map.gif").read_bytes())) as moving:
        assert moving.n_frames == (len(seen.pictures) if over_frames else len(seen.history.steps) + 1)
        assert moving.info["loop"] == 0
        first = np.asarray(moving.convert("RGB")).astype(int)
        moving.seek(moving.n_frames - 1)
        assert np.abs(np.asarray(moving.convert("RGB")) - first).max() > 50
