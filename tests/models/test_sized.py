"""Pictures whose sizes come with the prompt, whose tokens lie on no grid, or who bring marks of their own."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from framefusion.core.layout import MARKER, NEWLINE
from framefusion.core.registry import family_of
from framefusion.testing.conformance.oracle import Oracle
from framefusion.testing.conformance.toy import names
from framefusion.testing.conformance.visuals import Visual, clip

TEXT, BREAK, IMAGE = 1, 2, 9
CONFIG = SimpleNamespace(
    image_token_id=IMAGE, spatial_merge_size=2, vision_config=SimpleNamespace(patch_size=14, spatial_merge_size=2)
)
KNOWN = dict(names())


def geometry(family: str, ids: list[int], **inputs):
    ((found, _),) = family_of(family).layout(CONFIG, inputs, torch.tensor([ids])).rows
    return found


def test_rows_parted_by_breaks_are_one_picture():
    ids = [TEXT, *([IMAGE] * 4 + [BREAK]) * 3, TEXT]
    found = geometry("mistral3", ids, image_sizes=torch.tensor([[84, 112]]))
    assert found.clip.tolist() == [0] * 12
    assert found.row.tolist() == [0] * 4 + [1] * 4 + [2] * 4


@pytest.mark.parametrize("name", ["image_sizes", "spatial_shapes"])
def test_pictures_that_touch_end_where_their_sizes_say(name):
    sizes = torch.tensor([[56, 84], [28, 56]])
    found = geometry("lighton_ocr", [TEXT, *[IMAGE] * 8, TEXT], **{name: sizes})
    assert found.clip.tolist() == [0] * 6 + [1] * 2
    assert found.column.tolist() == [0, 1, 2, 0, 1, 2, 0, 1]


def test_a_rest_of_the_configured_side_is_cut_off():
    found = geometry("lighton_ocr", [IMAGE] * 44, image_sizes=torch.tensor([[176, 176], [80, 128]]))
    assert found.clip.tolist() == [0] * 36 + [1] * 8


def test_sizes_of_earlier_turns_are_skipped():
    sizes = torch.tensor([[56, 84], [28, 56]])
    assert geometry("lighton_ocr", [TEXT, IMAGE, IMAGE], image_sizes=sizes).column.tolist() == [0, 1]


def test_sizes_that_do_not_fit_are_left_alone():
    found = geometry("lighton_ocr", [TEXT, *[IMAGE] * 5], image_sizes=torch.tensor([[168, 168]]))
    assert found.column.tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("family", ["aria", "blip-2", "idefics2", "instructblip"])
def test_queries_lie_on_no_grid(family):
    found = geometry(family, [IMAGE] * 8, pixel_values=torch.zeros(2, 3, 4, 4))
    assert found.clip.tolist() == [0] * 4 + [1] * 4
    assert found.row.unique().tolist() == found.column.unique().tolist() == [-1]


def test_hunyuan_marks_and_newlines():
    sizes = torch.tensor([[1, 4, 6], [1, 4, 4]])
    found = geometry("hunyuan_vl", [TEXT, *[IMAGE] * 10, TEXT, *[IMAGE] * 8], image_grid_thw=sizes)
    assert found.clip.tolist() == [0] * 10 + [1] * 8
    assert (found.kind[:10] == MARKER).nonzero().flatten().tolist() == [0, 9]
    assert (found.kind[:10] == NEWLINE).nonzero().flatten().tolist() == [4, 8]
    assert found.row[:10].tolist() == [-1, 0, 0, 0, 0, 1, 1, 1, 1, -1]
    assert found.patch[:10].tolist() == list(range(10))


def test_pixels_of_a_video_are_no_picture():
    config = SimpleNamespace(video_token_id=IMAGE)
    inputs = {"pixel_values": torch.zeros(1, 4, 3, 8, 8)}
    ((found, _),) = family_of("instructblipvideo").layout(config, inputs, torch.tensor([[*[IMAGE] * 8, TEXT]])).rows
    assert found.frame.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["hunyuan_vl", "lighton_ocr", "mistral3", "paligemma", "idefics2"])
def test_what_is_seen_of_pictures(name):
    if name not in KNOWN:
        pytest.skip(f"this transformers has no {name}")
    seer, wide, square = Oracle(name, KNOWN[name]), clip(1, 120, 240), clip(1, 168, 168)
    seer.judge([Visual("image", wide)])
    seer.judge([Visual("image", square)] * 2, whole=False)
