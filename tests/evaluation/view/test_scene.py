"""Grids, the pictures behind them and history, for methods and families of every kind."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import framefusion as ff
from framefusion.core.errors import LayoutError
from framefusion.core.layout import Geometry
from framefusion.evaluation.view.background_images import backdrops
from framefusion.evaluation.view.scene import grids_of, scene_of
from framefusion.evaluation.view.token_history import KEPT, MERGED, NOBODY, PRUNED
from tests.support.seeing import checkpoint, clip, scene

MIX = [
    ("qwen2_5_vl", "framefusion", ()),
    ("qwen3_vl", "pyramiddrop", ()),
    ("qwen2_vl", "prunevid", ()),
    ("video_llama_3", "spatial_pool", ()),
    ("llava_onevision", "scissor", ()),
    ("internvl", "prumerge", (("keep", 0.4),)),
    ("llava", "tome", ()),
    ("smolvlm", "frame_sample", ()),
]


@pytest.mark.parametrize(
    ("family", "method", "options"), MIX, ids=lambda value: value if isinstance(value, str) else ""
)
def test_histories_agree_with_the_report(family, method, options):
    if family == "smolvlm":
        pytest.importorskip("num2words")
    seen = scene(family, method, **dict(options))
    report, last = seen.reduced.report, len(seen.history.steps)
    assert last > 0
    columns = report.layout.rows[0][1].columns.numpy()
    alive = columns[seen.history.states(last) == KEPT]
    assert set(alive) == set(columns) & set(report.surviving_columns[0])
    for layer in seen.prompt.layers:
        acted = [
            s
            for s in seen.history.steps
            if s.point.layer < layer.layer or str(s.point) == f"before layer {layer.layer}"
        ]
        assert (seen.history.states(len(acted)) == KEPT).sum() == layer.visual_in
    tokens = np.concatenate([picture.cells.flatten() for picture in seen.pictures])
    tokens = tokens[tokens != NOBODY]
    assert len(set(tokens)) == len(tokens) and set(tokens) <= set(range(len(seen.history)))
    assert all(picture.image is not None for picture in seen.pictures)


@pytest.mark.parametrize("mode", ["copy", "merge"])
@pytest.mark.parametrize("family", ["qwen2_5_vl", "llava_onevision", "internvl"])
def test_what_the_tower_did_not_encode_is_known_patch_by_patch(family, mode):
    seen = scene(family, "pixel_dedup", mode=mode, keep=0.6)
    report, geometry = seen.reduced.report, seen.reduced.report.layout.rows[0][0]
    again = seen.repeats != np.arange(len(seen.repeats))
    assert 0 < again.sum() < again.size
    assert (again.sum() / again.size) == pytest.approx(1 - report.patches / report.patches_dense, abs=0.08)
    for name in ("row", "column", "clip"):
        place = getattr(geometry, name).numpy()
        assert (place == place[seen.repeats]).all()
    frame = geometry.frame.numpy()
    assert (frame[seen.repeats] < frame)[again].all() and not again[seen.repeats].any()
    if mode == "merge":
        assert (again == (seen.history.states(1) == MERGED)).all()


def test_without_a_decision_from_pixels_everything_was_encoded():
    seen = scene("qwen2_5_vl", "framefusion")
    assert seen.repeats is None and seen.reduced.report.repeats == []


def test_what_each_method_does_is_what_is_seen():
    def states(*names):
        history = scene(*names).history
        return set(history.states(len(history.steps)).tolist())

    assert states("qwen2_5_vl", "uniform") == {KEPT, PRUNED}
    assert states("qwen2_5_vl", "spatial_pool") == {KEPT, MERGED}
    assert states("qwen2_vl", "prunevid") == {KEPT, MERGED, PRUNED}


def test_the_point_is_where_the_method_acted():
    assert str(scene("llava", "tome").history.steps[0].point) == "inside the vision tower"
    assert str(scene("internvl", "prumerge", keep=0.4).history.steps[0].point) == "in front of the projector"
    assert scene("qwen3_vl", "pyramiddrop").history.steps[0].method == "pyramiddrop"


def test_framefusion_merges_along_time_only():
    seen = scene("qwen2_5_vl", "framefusion")
    geometry = seen.reduced.report.layout.rows[0][0]
    merged = (seen.history.into != NOBODY).nonzero()[0]
    assert merged.size
    for token in merged:
        head = seen.history.into[token]
        assert geometry.patch[token] == geometry.patch[head] and geometry.frame[token] > geometry.frame[head]


def test_a_tower_stage_whose_patches_are_no_tokens_says_so():
    seen = scene("llava_onevision", "tome")
    assert not seen.history.steps
    assert any("inside the vision tower" in note for note in seen.notes)


def test_grids_leave_newlines_out_and_gaps_open():
    rows = Geometry.grid(2, 2, 3, row_newline=True)
    first, second = grids_of(rows)
    assert first.tolist() == [[0, 1, 2], [4, 5, 6]] and second.tolist() == [[8, 9, 10], [12, 13, 14]]
    thinned = Geometry.grid(2, 2, 2)[torch.tensor([0, 1, 2, 3, 5])]
    assert grids_of(thinned)[1].tolist() == [[NOBODY, 4], [NOBODY, NOBODY]]
    several = Geometry.cat([Geometry.grid(1, 1, 2), Geometry.grid(1, 2, 1).as_clip(1)])
    assert [cells.shape for cells in grids_of(several)] == [(1, 2), (2, 1)]


def test_names_follow_frames():
    assert [picture.name for picture in scene("qwen2_5_vl").pictures] == ["frames 1–2", "frames 3–4", "frames 5–6"]
    assert [picture.name for picture in scene("llava").pictures][:2] == ["frame 1", "frame 2"]


def test_pictures_are_what_the_processor_made_of_the_clip():
    """Where a processor squeezes frames of 56 x 84 into squares, squares are shown, in the clip's colours."""
    seen = scene("llava_onevision").pictures[2].image
    assert seen.size == (56, 56)
    expected = clip().frames[2].reshape(-1, 3).mean(0)
    assert np.abs(np.asarray(seen).reshape(-1, 3).mean(0) - expected).max() < 3
    assert scene("qwen2_5_vl").pictures[1].image.size == (84, 56)
    assert np.array_equal(np.asarray(scene("qwen2_5_vl").pictures[1].image), clip().frames[2])


def test_more_pictures_than_frames_are_tiles():
    tiles = torch.zeros(1, 12, 3, 8, 8)
    named = backdrops(12, SimpleNamespace(processor=None), {"pixel_values": tiles}, (clip(),))
    assert named[3][0] == "frame 2, tile 2" and named[3][1].shape == (8, 8, 3)
    assert all(picture is None for _, picture in backdrops(12, checkpoint("qwen2_5_vl"), {}, (clip(),)))
    assert backdrops(7, checkpoint("qwen2_5_vl"), {}, (clip(),))[6] == ("picture 7", None)


def again(layout):
    """A scene whose prompt had that layout."""
    seen = scene("qwen2_5_vl")
    report = SimpleNamespace(layout=layout, last=seen.prompt, notes=[], steps=[], decisions=[])
    answer = replace(seen.reduced, report=report)
    return scene_of(checkpoint("qwen2_5_vl"), (clip(),), "What?", {}, ff.FrameFusion(), answer)


def test_a_prompt_without_pictures_is_a_clear_error():
    for layout in (None, ff.Layout.from_patch_types([[-1, -1, -1]])):
        with pytest.raises(LayoutError, match="no visual tokens"):
            again(layout)


def test_tokens_without_rows_and_columns_are_a_clear_error():
    with pytest.raises(LayoutError, match="cannot be drawn"):
        again(ff.Layout.from_patch_types([[-1, 0, 1, 2, 0, 1, 2, -1]]))
    placement = scene("qwen2_5_vl").reduced.report.layout.rows[0][1]
    strip = Geometry.grid(1, 1, len(placement.columns))
    with pytest.raises(LayoutError, match="no rows and columns"):
        again(ff.Layout(((strip, placement),), 1000))
