"""The layout names every visual token of a prompt: checked against grids and the known sizes of the toy towers."""

from __future__ import annotations

import pytest
import torch

import framefusion as ff
from framefusion.core.layout import NEWLINE, PATCH
from tests.support.cases import every_family, inputs_of, model_of, reduced

GRIDS = {"qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_vl_moe", "qwen3_5", "qwen3_5_moe"}
FRAMES, SIDE = 4, 4
UNPOOLED = {"llava": 8}
NEWLINES = {"llava_onevision": 1, "llava_qwen": FRAMES * SIDE}
ROW_NEWLINE = {"llava_qwen"}
VIDEOS = {"video_llama_3", "llava_onevision", "llava_next_video", "llava_qwen"}
IDENTITY = ff.FrameFusion(cost=1.0)


def layout_of(family, *rows):
    inputs = inputs_of(family, *rows)
    _, report = reduced(model_of(family), IDENTITY, inputs)
    return inputs, report.layout.rows


def steps(family):
    """Time steps of a clip of four frames: the Qwen kin merge two frames into one."""
    return FRAMES // 2 if family in GRIDS else FRAMES


def kept_of_clips(inputs, count):
    """VideoLLaMA 3 drops tokens that did not change: indices of those that stayed, per clip."""
    mask = inputs["video_compression_mask"].view(count, -1)
    return [clip.nonzero().flatten() for clip in mask]


def expected_clip(family, inputs, number, clips):
    """(frame, row, column) of every patch of one clip, in prompt order."""
    side = UNPOOLED.get(family, SIDE)
    cells = [(f, r, c) for f in range(steps(family)) for r in range(side) for c in range(side)]
    if family == "video_llama_3":
        return [cells[index] for index in kept_of_clips(inputs, clips)[number].tolist()]
    return cells


def cells_of(geometry):
    return list(zip(geometry.frame.tolist(), geometry.row.tolist(), geometry.column.tolist(), strict=True))


@every_family
def test_one_clip(family):
    inputs, ((geometry, placement),) = layout_of(family, "full")
    patches = geometry[geometry.kind == PATCH]
    expected = expected_clip(family, inputs, 0, 1)
    assert cells_of(patches) == expected
    width = UNPOOLED.get(family, SIDE) + (family in ROW_NEWLINE)
    assert patches.patch.tolist() == [row * width + column for _, row, column in expected]
    assert set(geometry.clip.tolist()) == {0}
    assert int((geometry.kind == NEWLINE).sum()) == NEWLINES.get(family, 0)
    assert visual_ids(family, inputs, 0) == placement.columns.tolist()


def visual_ids(family, inputs, row):
    """Columns of the placeholders the model overwrites, found by what the stock embedding changes there."""
    model, seen = model_of(family), {}
    with torch.no_grad():
        hook = model.get_decoder().register_forward_pre_hook(
            lambda module, args, kwargs: seen.update(kwargs), with_kwargs=True
        )
        model(**inputs)
        hook.remove()
        words = model.get_input_embeddings()(inputs["input_ids"])
    changed = (seen["inputs_embeds"] - words).abs().amax(-1) > 1e-6
    return changed[row].nonzero().flatten().tolist()


@every_family
@pytest.mark.parametrize("rows", [("two",), ("full", "text", "two"), ("images",), ("mixed", "full")])
def test_every_visual_column_and_no_other_is_placed(family, rows):
    inputs, layout = layout_of(family, *rows)
    for number, (geometry, placement) in enumerate(layout):
        assert placement.columns.tolist() == visual_ids(family, inputs, number)
        assert len(geometry) == len(placement.columns)


# Families without video input: a clip is a series of pictures, and nothing says where one ends and the next begins.
SERIES = {"gemma3", "llava"}


@every_family
def test_two_clips(family):
    inputs, ((geometry, _),) = layout_of(family, "two")
    patches = geometry[geometry.kind == PATCH]
    clips = [expected_clip(family, inputs, number, 2) for number in range(2)]
    if family in SERIES:
        later = [(frame + FRAMES, row, column) for frame, row, column in clips[1]]
        assert cells_of(patches) == clips[0] + later and set(geometry.clip.tolist()) == {0}
        return
    assert cells_of(patches) == clips[0] + clips[1]
    assert patches.clip.tolist() == [0] * len(clips[0]) + [1] * len(clips[1])


@every_family
def test_rows_of_a_batch_share_no_clip(family):
    """Sizes come for all rows together; each row counts its own clips from nought."""
    inputs, layout = layout_of(family, "full", "text", "short")
    assert len(layout[1][0]) == 0
    for number, row in enumerate((0, 2)):
        geometry = layout[row][0]
        assert set(geometry.clip.tolist()) == {0}
        assert cells_of(geometry[geometry.kind == PATCH]) == expected_clip(family, inputs, number, 2)


@every_family
def test_images(family):
    """Two pictures: 4 x 4 merged tokens with a grid, 8 x 8 unmerged ones, or a base picture and its one tile."""
    inputs, ((geometry, placement),) = layout_of(family, "images")
    if family in GRIDS or family == "video_llama_3":
        merge = 2 if family in GRIDS else 1
        sizes = [int(grid.prod()) // merge**2 for grid in inputs["image_grid_thw"]]
        assert sizes == [(8 // merge) ** 2] * 2
        assert torch.bincount(geometry.clip).tolist() == sizes
        assert set(geometry.frame.tolist()) == {0}
        assert geometry.patch.tolist() == [patch for size in sizes for patch in range(size)]
        return
    gaps = (placement.columns.diff() > 1).nonzero().flatten() + 1
    pictures = [geometry[index] for index in torch.arange(len(geometry)).tensor_split(gaps)]
    assert len(pictures) == 2
    assert pictures[0].patch.tolist() == pictures[1].patch.tolist()
    assert not set(zip(pictures[0].clip.tolist(), pictures[0].frame.tolist(), strict=True)) & set(
        zip(pictures[1].clip.tolist(), pictures[1].frame.tolist(), strict=True)
    )


@every_family
def test_pictures_are_stills_unless_it_is_said(family):
    """Two pictures of one size are no clip: nothing of one merges into the other, however alike they are."""
    model, inputs = model_of(family), inputs_of(family, "images")
    with ff.reduce(model, ff.FrameFusion(cost=1.0)) as reduction, torch.no_grad():
        model(**inputs)
    ((geometry, placement),) = reduction.report.layout.rows
    gap = int((placement.columns.diff() > 1).nonzero()[0]) + 1
    assert set(geometry.frame.tolist()) == {0}
    assert not set(geometry.clip[:gap].tolist()) & set(geometry.clip[gap:].tolist())


@pytest.mark.parametrize(
    "family", sorted(GRIDS | {"internvl", "video_llama_3", "llava_onevision", "llava_next_video", "llava_qwen"})
)
def test_a_picture_before_a_clip_counts_first(family):
    _, ((geometry, _),) = layout_of(family, "mixed")
    assert geometry.clip.tolist() == sorted(geometry.clip.tolist())
    assert set(geometry.clip.tolist()) == {0, 1}
    assert int(geometry.frame[geometry.clip == 1].max()) == steps(family) - 1
