"""Rows of several samples are refused, however a call says that they are; single samples never are."""

from __future__ import annotations

import pytest
import torch

import framefusion as ff
from framefusion.core.errors import PackedRowsError
from framefusion.methods.random import Random
from tests.behaviour.support import every_family, families, inputs, model
from tests.support.tiny import moving_clip, prompt

MROPE = ("qwen2_5_vl", "qwen3_vl")
SIDEWAYS = {"input_ids", "mm_token_type_ids", "token_type_ids"}


def parts(name):
    found = [
        prompt(name, [[("video", moving_clip(4, seed=seed)), ("text", text)]]) for seed, text in ((1, "a?"), (2, "b"))
    ]
    for part in found:
        part.pop("attention_mask")
    return found


def packed(name):
    """Two samples in one row, and their lengths."""
    both = parts(name)
    row = {key: torch.cat([part[key] for part in both], int(key in SIDEWAYS)) for key in both[0]}
    return row, [part["input_ids"].shape[1] for part in both]


def refused(name, row):
    with ff.reduce(model(name), Random(keep=0.5)), torch.no_grad(), pytest.raises(PackedRowsError) as caught:
        model(name)(**row, use_cache=False)
    assert caught.value.why and caught.value.hint


def counted(lengths):
    return torch.cat([torch.arange(length) for length in lengths])[None]


@families("llava_onevision", "internvl", "gemma3")
def test_positions_that_start_again(name):
    row, lengths = packed(name)
    refused(name, {**row, "position_ids": counted(lengths)})


@families(*MROPE)
@pytest.mark.parametrize("planes", [3, 4])
def test_planes_of_positions_that_start_again(name, planes):
    row, lengths = packed(name)
    net = model(name)
    each = []
    for part in parts(name):
        grids = {key: part[key] for key in ("video_grid_thw", "second_per_grid_ts", "mm_token_type_ids") if key in part}
        each.append(net.model.get_rope_index(part["input_ids"], **grids)[0])
    positions = torch.cat(each, -1)
    text = counted(lengths)[None]
    refused(name, {**row, "position_ids": torch.cat([text, positions]) if planes == 4 else positions})


@families("llava_onevision", "qwen2_5_vl")
def test_borders_masks_and_numbers(name):
    row, lengths = packed(name)
    total, first = sum(lengths), lengths[0]
    borders = torch.tensor([0, first, total], dtype=torch.int32)
    refused(name, {**row, "cu_seq_lens_q": borders, "cu_seq_lens_k": borders})
    number = torch.repeat_interleave(torch.arange(2), torch.tensor(lengths))[None]
    refused(name, {**row, "attention_mask": number + 1})
    if name not in MROPE:  # which count positions by their mask, and fail on one of four axes
        mask = (number[..., None] == number[..., None, :]).tril()[:, None]
        refused(name, {**row, "attention_mask": mask})


@every_family
def test_a_batch_of_samples_is_none(name):
    """Not with padding on either side, nor with the positions that each family counts its pictures by."""
    with ff.reduce(model(name), Random(keep=0.5)), torch.no_grad():
        model(name)(**inputs(name))
        model(name).generate(**inputs(name), max_new_tokens=2, do_sample=False)


def test_words_may_be_packed():
    name = "llava_onevision"
    ids = torch.arange(20, 40)[None]
    with ff.reduce(model(name), Random(keep=0.5)), torch.no_grad():
        model(name)(input_ids=ids, position_ids=counted([8, 12]))


@pytest.mark.parametrize("name", ["llava_onevision", "gemma3", "internvl"])
@pytest.mark.parametrize("beams", [1, 2])
def test_what_generate_writes_behind_padding_is_no_sample(name, beams):
    """Without a cache transformers gives the tokens behind right padding positions that start again."""
    net = model(name)
    batch = prompt(name, [[("video", moving_clip(2)), ("text", text)] for text in ("what happens here?", "?")], "right")
    options = {"max_new_tokens": 3, "do_sample": False, "use_cache": False, "num_beams": beams}
    dense = net.generate(**batch, **options)
    with ff.reduce(net, Random(keep=1.0)):
        assert torch.equal(net.generate(**batch, **options), dense)
