"""What a tower gives when patches leave inside it, against a tower at full length in which they are hidden by hand."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import framefusion as ff
from framefusion.core.errors import UnsupportedPointError
from framefusion.engine.weighted_attention import attend_whole
from framefusion.inference.reduction import reduce_clips
from tests.support.naive_encoding import features_in, tower_of
from tests.support.naive_inside import BEHIND, ByHand, deep_model, outputs_by_hand
from tests.support.tiny import moving_clip, processor, prompt

GROUPED = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_5", "video_llama_3")
PICTURES = ("llava_onevision", "llava", "llava_qwen", "llava_next_video", "internvl", "smolvlm", "gemma3")
FAMILIES = (*GROUPED, *PICTURES)
DEPTH = 4
SEGMENTS = [("video", moving_clip(frames=4, change=1.0)), ("text", "what happens here?")]
OTHER = [("text", "and "), ("video", moving_clip(frames=4, seed=3, change=1.0)), ("text", "then?")]
LEFT = 20
HOW = {"count": LEFT, "block": 1, "neighbours": 3}

every_family = pytest.mark.parametrize("family", FAMILIES)
METHODS = {
    "tome": ff.ToMe(keep=LEFT),
    "ipcv": ff.IPCV(keep=LEFT, block=1, reading=0, neighbours=3),
    "ipcv, reading": ff.IPCV(keep=LEFT, block=1, reading=1, neighbours=3),
}
every_method = pytest.mark.parametrize("name", METHODS)


def by_hand(name: str, family: str) -> ByHand:
    blocks = DEPTH - BEHIND.get(family, 0)
    if name == "tome":
        return ByHand(family, blocks, merges={"goal": LEFT})
    return ByHand(family, blocks, takes_out={**HOW, "reading": int("reading" in name)})


@cache
def model_of(family: str, attn: str = "sdpa") -> Any:
    if family == "smolvlm":
        pytest.importorskip("num2words")
    return deep_model(family, attn, DEPTH)


def logits(family: str, method: ff.Method | None, *rows: Any, attn: str = "sdpa", **how: Any) -> tuple[Tensor, Any]:
    model, inputs = model_of(family, attn), prompt(family, list(rows))
    with torch.no_grad():
        if method is None:
            return model(**inputs).logits, None
        with reduce_clips(model, method, processor(family), **how) as reduction:
            return model(**inputs).logits, reduction.report


def seen_of(family: str, model: Any, method: ff.Method) -> dict[str, Any]:
    """What the tower of the reduced model was given, and what it gave."""
    seen: dict[str, Any] = {}

    def note(module: Any, args: Any, kwargs: Any, output: Any) -> None:
        given = {**({"pixels": args[0]} if args else {}), **kwargs}
        seen.update(given=given, features=features_in(family, output), planes=getattr(output, "deepstack_features", ()))

    with torch.no_grad(), reduce_clips(model, method, processor(family)):
        handle = tower_of(model).register_forward_hook(note, with_kwargs=True)
        model(**prompt(family, [SEGMENTS]))
        handle.remove()
    return seen


@pytest.mark.parametrize("attn", ["sdpa", "eager"])
@every_method
@every_family
def test_features_are_those_of_a_tower_at_full_length(family: str, name: str, attn: str) -> None:
    seen = seen_of(family, model_of(family, attn), METHODS[name])
    given = {**seen["given"], "output_hidden_states": True}
    if "pixels" in given:
        given["hidden_states" if "grid_thw" in given else "pixel_values"] = given.pop("pixels")
    tower = tower_of(model_of(family, "eager"))
    expected = outputs_by_hand(tower, by_hand(name, family), given)
    found, whole = seen["features"], features_in(family, expected)
    assert torch.allclose(found, whole, atol=1e-4)
    for plane, other in zip(seen["planes"], getattr(expected, "deepstack_features", ()), strict=True):
        assert torch.allclose(plane, other, atol=1e-4)
    dense = features_in(family, tower(**given))
    assert not torch.allclose(found, dense, atol=1e-3)


@pytest.mark.parametrize("attn", ["sdpa", "eager"])
@pytest.mark.parametrize("method", [ff.ToMe(keep=1.0), ff.IPCV(keep=1.0)], ids=["tome", "ipcv"])
@every_family
def test_keeping_every_patch_changes_no_bit(family: str, method: ff.Method, attn: str) -> None:
    dense, _ = logits(family, None, SEGMENTS, OTHER, attn=attn)
    found, report = logits(family, method, SEGMENTS, OTHER, attn=attn)
    assert torch.equal(found, dense)
    assert report.tower_cost == 1.0
    assert torch.equal(logits(family, None, SEGMENTS, OTHER, attn=attn)[0], dense)


@every_method
@every_family
def test_a_batch_equals_its_rows_and_leaves_nothing_behind(family: str, name: str) -> None:
    dense, _ = logits(family, None, SEGMENTS)
    both, report = logits(family, METHODS[name], SEGMENTS, OTHER)
    worked = 0
    for number, row in enumerate((SEGMENTS, OTHER)):
        alone, own = logits(family, METHODS[name], row)
        worked += sum(block.patches_out for block in own.tower_blocks)
        assert torch.allclose(both[number, -1], alone[0, -1], atol=1e-3)
    assert sum(block.patches_out for block in report.tower_blocks) == worked
    assert torch.equal(logits(family, None, SEGMENTS)[0], dense)
    assert not any(module._forward_pre_hooks for module in tower_of(model_of(family)).modules())


@every_method
@every_family
def test_windows_of_frames_give_what_all_frames_at_once_give(family: str, name: str) -> None:
    whole, report = logits(family, METHODS[name], SEGMENTS)
    for frames in (1, 3):
        found, own = logits(family, METHODS[name], SEGMENTS, tower_frames=frames)
        assert torch.allclose(found, whole, atol=1e-4)
        assert own.tower_blocks == report.tower_blocks
        assert own.kept_tokens == report.kept_tokens


@every_family
def test_the_report_counts_patches_block_by_block(family: str) -> None:
    _, report = logits(family, METHODS["ipcv, reading"], SEGMENTS)
    blocks = report.tower_blocks
    every = blocks[0].patches_dense
    pictures = every // 64
    left = LEFT * pictures
    assert [block.patches_in for block in blocks] == [every, every, left, left]
    assert [block.patches_out for block in blocks] == [every, left, left, left]
    assert report.tower_cost == pytest.approx((3 * every + 5 * left) / (8 * every))
    assert f"{report.tower_cost:.1%} of the patches per block" in str(report)
    assert report.to_dict()["tower_blocks"][2]["patches_in"] == left
    assert report.kept_fraction == 1.0


@pytest.mark.parametrize("family", ["qwen2_5_vl", "qwen3_vl"])
def test_pictures_of_unlike_sizes_keep_their_shares(family: str) -> None:
    still = [moving_clip(frames=1, seed=seed)[:, :, :width] for seed, width in ((1, 56), (2, 28))]
    row = [("image", still[0]), ("image", still[1]), ("text", "?")]
    for method in (ff.ToMe(keep=0.5), ff.IPCV(keep=0.5, block=1, reading=1)):
        _, report = logits(family, method, row)
        assert report.tower_blocks[-1].patches_out * 2 == report.tower_blocks[-1].patches_dense


@pytest.mark.parametrize("family", ["qwen2_5_vl", "qwen3_vl", "internvl", "llava", "llava_onevision"])
@pytest.mark.parametrize(
    "behind",
    [ff.FrameFusion(cost=0.4), ff.TemporalWard(keep=0.4), ff.FastV(keep=0.4, layer=1), ff.VisionZip(keep=0.4)],
    ids=lambda method: method.facts.name,
)
@every_method
def test_any_method_follows_in_a_chain(family: str, name: str, behind: ff.Method) -> None:
    chain = ff.Chain(METHODS[name], behind)
    both, report = logits(family, chain, SEGMENTS, OTHER)
    assert report.tower_cost < 1.0 and 0 < report.cost < 1.0
    assert bool(both.isfinite().all())
    for number, row in enumerate((SEGMENTS, OTHER)):
        assert torch.allclose(both[number, -1], logits(family, chain, row)[0][0, -1], atol=1e-3)


def test_a_block_behind_the_tower_is_refused() -> None:
    with pytest.raises(UnsupportedPointError, match="no block behind the first 4"):
        logits("qwen2_5_vl", ff.IPCV(keep=0.5, block=4), SEGMENTS)


@pytest.mark.parametrize("family", ["qwen2_5_vl", "internvl"])
def test_repeated_frames_are_merged_alike(family: str) -> None:
    """Equal patches do not leave the choice between them to the order of pictures."""
    still = [("video", np.repeat(SEGMENTS[0][1][:1], 4, 0)), ("text", "?")]
    for method in METHODS.values():
        found, _ = logits(family, method, still)
        assert torch.allclose(found, logits(family, method, still, tower_frames=2)[0], atol=1e-4)


def test_the_report_of_units_left_out_by_their_pixels_has_blocks_too() -> None:
    _, report = logits("qwen2_5_vl", ff.PixelDedup(keep=0.6), SEGMENTS)
    assert [block.patches_in for block in report.tower_blocks] == [report.patches] * DEPTH
    assert report.tower_cost == pytest.approx(report.patches / report.patches_dense)


@pytest.mark.parametrize("masked", [False, True])
def test_a_flash_kernel_weighs_merged_patches_in_channels(masked: bool) -> None:
    """Its arithmetic, with a plain attention in its place, which takes no mask as flash kernels do not."""
    draw = torch.Generator().manual_seed(0)
    query, key, value = torch.randn(3, 2, 4, 7, 16, generator=draw)
    weight = torch.randint(1, 9, (2, 7), generator=draw).float().log()

    def plain(query: Tensor, key: Tensor, value: Tensor, mask: Any, scaling: float) -> tuple[Tensor, None]:
        logits = query @ key.transpose(-1, -2) * scaling
        return ((logits if mask is None else logits + mask).softmax(-1) @ value).transpose(1, 2), None

    states = (query, key, value)
    flash = attend_whole(True, plain, *states, None, weight=weight, scaling=0.25)[0]
    bias = torch.zeros(2, 1, 1, 7) if masked else None
    assert torch.allclose(flash, attend_whole(False, plain, *states, bias, weight=weight, scaling=0.25)[0], atol=1e-5)
    assert not torch.allclose(flash, attend_whole(False, plain, *states, None, scaling=0.25)[0], atol=1e-3)
